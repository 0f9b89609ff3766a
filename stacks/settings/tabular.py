"""Settings of the kind `tabular`: models by group of a table, and the multi-model endpoints that serve them."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from model_build.tabular.recipe import TabularRecipe
from stacks.settings.base import Key
from stacks.settings.endpoint import SingleVariantEndpoint
from stacks.settings.instance_types import InstanceType
from stacks.settings.principals import Principal
from stacks.settings.workload import Workload

Container = Literal["trees", "builtin"]


class TabularEndpoint(SingleVariantEndpoint):
    """One multi-model endpoint, which serves every model under the workload's prefix."""

    multi_model: ClassVar[bool] = True

    instance_type: InstanceType = "ml.c5.2xlarge"
    """SageMaker instance type."""

    @model_validator(mode="after")
    def _possible(self) -> "TabularEndpoint":
        self.check_instances(self.scaling)
        return self


_BUILD_FILES = ("summary.json", "failure.json", "requests.csv", "accuracy.png")
"""Files that a build of churn models writes in addition to the models; a test compares them with the build."""


class Tabular(Workload):
    """One model per group of a table, and multi-model endpoints that serve all of them."""

    kind: Literal["tabular"] = "tabular"
    """Kind of the workload."""
    recipe: TabularRecipe = TabularRecipe()
    """Recipe of the models."""
    container: Container = "trees"
    """`trees` is this project's image, `builtin` the image of SageMaker's built-in XGBoost."""
    memory_per_model_mib: int = Field(default=0, ge=0)
    """Least memory that a model counts as in this project's image, in MiB. 0 counts the memory it uses, about 0.1 MiB.
    The built-in container uses about 235 MiB: the published ml.c5.xlarge held 31 models."""
    model_uploaders: tuple[Principal, ...] | None = None
    """ARNs of the roles and users who may upload models; `*` matches any part of a name. By default, IAM alone
    decides who may upload. With a list, the bucket denies everyone else, including administrators; [] allows only
    builds.
    """
    endpoints: dict[Key, TabularEndpoint] = Field(min_length=1)
    """Endpoints by key."""

    @model_validator(mode="after")
    def _possible(self) -> "Tabular":
        if self.container == "builtin" and self.memory_per_model_mib:
            raise ValueError(
                f"memory_per_model_mib is {self.memory_per_model_mib} with container 'builtin': this setting has no "
                "effect on the built-in image; remove it or use container: trees"
            )
        return self

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """Return the S3 URLs that the builds of this workload read."""
        return self.recipe.s3_urls

    @property
    def writers(self) -> tuple[str, ...]:
        """Return the ARNs of the principals that may upload models."""
        return self.model_uploaders or ()

    def protected_keys(self, name: str) -> tuple[str, ...]:
        """Return all keys if uploaders are named, otherwise all keys except the models'."""
        if self.model_uploaders is not None:
            return super().protected_keys(name)
        return (f"{name}/build-cache.json", *(f"{name}/*/{file}" for file in _BUILD_FILES))

    @property
    def served(self) -> Mapping[str, TabularEndpoint]:
        """Everything under `endpoints`, by key."""
        return self.endpoints
