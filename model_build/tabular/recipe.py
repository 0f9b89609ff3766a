"""The recipe of a tabular build: its settings, defaults and limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_build.tabular.schema import STATES

MIN_CUSTOMERS_PER_STATE = 20
"""Fewest generated rows per state: with fewer, a test share of 10 % leaves some states without test rows."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class GeneratedSource(_Frozen):
    """Customers from this project's seeded generator, for work without network access."""

    kind: Literal["generated"] = "generated"
    """Kind of the source."""
    customers: int = Field(default=5100, ge=MIN_CUSTOMERS_PER_STATE * len(STATES), le=1_000_000)
    """Number of customers in all states."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the customers."""


class S3Source(_Frozen):
    """A churn table in S3; the default is the public sample of the SageMaker examples."""

    kind: Literal["s3"] = "s3"
    """Kind of the source."""
    url: str = Field(
        default="s3://sagemaker-sample-files/datasets/tabular/synthetic/churn.txt", pattern=r"^s3://[^/]+/.+$"
    )
    """The object, `s3://bucket/key`."""


class FileSource(_Frozen):
    """A churn table on the build machine."""

    kind: Literal["file"] = "file"
    """Kind of the source."""
    path: str = Field(min_length=1)
    """Path of the file."""


TableSource = Annotated[GeneratedSource | S3Source | FileSource, Field(discriminator="kind")]


class TabularRecipe(_Frozen):
    """All settings that affect the result of a tabular build.

    num_round, max_depth, eta and min_child_weight are XGBoost's parameters, with its defaults except for num_round.
    """

    source: TableSource = GeneratedSource()
    """The table of customers."""
    test_share: float = Field(default=0.1, gt=0, le=0.5)
    """Fraction of all rows that is held out for the test."""
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    """Fraction of the remaining rows that is held out for validation."""
    num_round: int = Field(default=20, ge=1, le=10_000)
    """Number of trees of each model."""
    max_depth: int = Field(default=6, ge=1, le=16)
    """Most splits between the root and a leaf."""
    eta: float = Field(default=0.3, gt=0, le=1)
    """Learning rate."""
    min_child_weight: float = Field(default=1.0, ge=0)
    """Smallest sum of weights in a leaf. With fewer than a hundred rows per state, 0.1 allows more splits."""
    # XGBoost and scikit-learn both accept seeds of at most 32 bits.
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """Random seed of the splits and of XGBoost."""

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """Return the S3 URLs that the build reads."""
        return (self.source.url,) if isinstance(self.source, S3Source) else ()
