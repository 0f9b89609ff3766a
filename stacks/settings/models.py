"""The base of kinds that build several models, each of which an endpoint serves."""

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from pydantic import Field

from model_build.encoder.recipe import ModelRecipe
from stacks.settings.base import Key
from stacks.settings.supply_chain import check_revision
from stacks.settings.workload import Workload

Recipe = TypeVar("Recipe", bound=ModelRecipe)


class _Serving(Protocol):
    @property
    def model(self) -> str: ...


class ModelsWorkload(Workload, Generic[Recipe]):
    """A workload of models by key; every endpoint names one of them, and every model has an endpoint."""

    models: dict[Key, Recipe] = Field(min_length=1)
    """Recipes of the models, by key."""

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the builds of this workload read from S3."""
        return tuple(sorted({url for recipe in self.models.values() for url in recipe.s3_urls}))

    def check_production(self, path: str) -> None:
        """Raise ValueError for a model of the hub whose revision may move."""
        for name, recipe in self.models.items():
            check_revision(recipe.source, f"{path}.models.{name}.source")

    def check_models(self, endpoints: Mapping[str, _Serving]) -> None:
        """Raise ValueError for an endpoint of an unknown model, and for a model without an endpoint."""
        for name, endpoint in endpoints.items():
            if endpoint.model not in self.models:
                raise ValueError(
                    f"endpoints.{name}.model is {endpoint.model!r}: choose one of models: {', '.join(self.models)}"
                )
        if unused := set(self.models) - {endpoint.model for endpoint in endpoints.values()}:
            raise ValueError(f"models.{sorted(unused)[0]} is served by no endpoint: remove it or add an endpoint")
