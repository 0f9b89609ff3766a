"""The recipe of a tabular build: the one home of its settings, defaults and limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_build.tabular.schema import STATES

MIN_CUSTOMERS_PER_STATE = 20
"""Fewest generated rows of a state: with fewer, a 10 % test share leaves states without a test row."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratedSource(_Frozen):
    """Customers made by this project's seeded generator, for work without a network."""

    kind: Literal["generated"] = "generated"
    customers: int = Field(default=5100, ge=MIN_CUSTOMERS_PER_STATE * len(STATES), le=1_000_000)
    seed: int = Field(default=0, ge=0)


class S3Source(_Frozen):
    """A churn table in S3; the default is the public sample of the SageMaker examples."""

    kind: Literal["s3"] = "s3"
    url: str = Field(
        default="s3://sagemaker-sample-files/datasets/tabular/synthetic/churn.txt", pattern=r"^s3://[^/]+/.+$"
    )


class FileSource(_Frozen):
    """A churn table on the building machine."""

    kind: Literal["file"] = "file"
    path: str = Field(min_length=1)


TableSource = Annotated[GeneratedSource | S3Source | FileSource, Field(discriminator="kind")]


class TabularRecipe(_Frozen):
    """Everything that decides what a tabular build makes, besides the source code.

    test_share is of all rows, validation_share of the rows that the test leaves. num_round, max_depth,
    eta and min_child_weight are XGBoost's parameters of these names, and its defaults save num_round.
    With fewer than a hundred rows a state, a min_child_weight of 0.1 allows more splits.
    """

    source: TableSource = GeneratedSource()
    test_share: float = Field(default=0.1, gt=0, le=0.5)
    validation_share: float = Field(default=0.1, gt=0, le=0.5)
    num_round: int = Field(default=20, ge=1, le=10_000)
    max_depth: int = Field(default=6, ge=1, le=16)
    eta: float = Field(default=0.3, gt=0, le=1)
    min_child_weight: float = Field(default=1.0, ge=0)
    # XGBoost and scikit-learn both take seeds of 32 bits at most.
    seed: int = Field(default=42, ge=0, le=2**31 - 1)

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the build reads from S3."""
        return (self.source.url,) if isinstance(self.source, S3Source) else ()
