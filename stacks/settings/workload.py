"""The base of every kind of workload: what the rest of the app asks of one, whatever it serves."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from stacks.settings.base import Settings
from stacks.settings.endpoint import SageMakerEndpoint, WorkloadEndpoint
from stacks.settings.neo import NeoCompilation


class Workload(Settings):
    """One entry of `workloads`: models to build, and endpoints that serve them.

    A subclass is a kind. It narrows `kind` to a literal with that default, declares `endpoints`, and is listed in
    `stacks.settings.kinds.KINDS`.
    """

    build_kinds: ClassVar[tuple[str, ...]] = ()
    """Other kinds whose packages in `model_build/` and `containers/` the build reads."""
    builds_on_fleet: ClassVar[bool] = True
    """Whether builds need the fleet's processor. A kind that compiles ahead of time needs memory instead."""

    compiled_model: ClassVar[str] = ""
    """Name of the model that SageMaker Neo compiles, for kinds with `compilations`."""

    kind: str
    """Kind of the workload."""

    @property
    @abstractmethod
    def served(self) -> Mapping[str, WorkloadEndpoint]:
        """Everything under `endpoints`, by key."""

    @property
    def sagemaker_endpoints(self) -> Mapping[str, SageMakerEndpoint]:
        """The SageMaker endpoints under `endpoints`, by key."""
        return {key: each for key, each in self.served.items() if isinstance(each, SageMakerEndpoint)}

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """S3 objects and prefixes, outside the artifact bucket, that the workload's builds read."""
        return ()

    @property
    def compilations(self) -> tuple[NeoCompilation, ...]:
        """Everything that SageMaker Neo compiles for the workload."""
        return ()

    @property
    def writers(self) -> tuple[str, ...]:
        """ARNs of principals who may write below the workload's prefix, besides its builds."""
        return ()

    def protected_keys(self, name: str) -> tuple[str, ...]:
        """Return the key patterns that only `writers` and the workload's builds may write.

        name: the workload's name, which is its prefix in the artifact bucket.
        """
        return (f"{name}/*",)

    def check_production(self, path: str) -> None:
        """Raise ValueError for what the profile prod refuses; path: of this workload in the deployment file."""
