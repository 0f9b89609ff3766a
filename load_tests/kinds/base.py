"""What load tests, sizing and reports ask of a kind of workload."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

from load_tests.closed_loop import Request, Target
from load_tests.deployed import DeployedWorkload, Kind, read_object
from load_tests.plan import HttpTarget, SageMakerTarget
from load_tests.report.model import Quality
from sizing.facts import Facts
from sizing.profiles import ServiceProfile
from sizing.size import Wanted
from stacks.naming import component_name
from stacks.settings.endpoint import SageMakerEndpoint

Summary = Mapping[str, Any]
"""A build's `summary.json`, whose form is each kind's own."""
ReadyServers = Callable[[str], tuple[str, ...]]
"""Returns the URLs of an endpoint's ready replicas, by the endpoint's name; only a local account can."""


@dataclass(frozen=True, slots=True)
class Served:
    """One variant of an endpoint, or a fleet: its key in the deployment, and where its requests go."""

    key: str
    endpoint: str
    variant: str | None
    instance_type: str
    target: SageMakerTarget | HttpTarget


@dataclass(frozen=True, slots=True)
class Reached:
    """How servers are reached beside InvokeEndpoint.

    ready: of a local account; None on AWS. hosts: named by the user, instead of those that are found. by_path: address
    a server's parts by their paths where it has some.
    """

    ready: ReadyServers | None = None
    hosts: Sequence[str] = ()
    by_path: bool = True


@dataclass(frozen=True, slots=True)
class Described:
    """What serves a candidate, in words, and its build's score; None where the build has none."""

    what: str
    quality: Quality | None


class WorkloadKind(ABC, Generic[Kind]):
    """One kind of workload; its only instance is in `load_tests.kinds.KINDS`."""

    question: ClassVar[str]
    """What a report on a workload of this kind decides."""
    facts: ClassVar[Facts]
    """What `inference size` assumes without measuring."""
    serves_by_path: ClassVar[bool] = False
    """Whether servers are reached by HTTP besides InvokeEndpoint, so that `--host` means something."""

    @abstractmethod
    def requests(self, workload: DeployedWorkload[Kind], key: str) -> list[Request]:
        """Return requests for an endpoint, in the form that it takes fastest.

        Errors of the client library pass through.
        """

    @abstractmethod
    def summaries(self, workload: DeployedWorkload[Kind]) -> dict[str, Summary]:
        """Return the summary of every build, by model; a kind with one build has it under ""."""

    @abstractmethod
    def qualities(self, summary: Summary) -> dict[str, Quality]:
        """Return a build's scores by artifact, or under "" where they hold for all of them."""

    @abstractmethod
    def describe(self, settings: Kind, key: str, variant: str | None, summaries: Mapping[str, Summary]) -> Described:
        """Return what a variant is, for the report."""

    def targets(self, workload: DeployedWorkload[Kind], key: str, reached: Reached) -> list[Served]:  # noqa: ARG002 - kinds outside SageMaker need it
        """Return the variants of an endpoint that requests can be sent to, none where it is out of reach.

        Raises ValueError; errors of the client library pass through.
        """
        endpoint = workload.settings.sagemaker_endpoints[key]
        name = workload.endpoint_name(key)
        component = component_name(name) if endpoint.hosts_component else None
        return [
            Served(
                key, name, variant, instance_type, SageMakerTarget(endpoint=name, variant=variant, component=component)
            )
            for variant, instance_type in endpoint.production_types.items()
        ]

    def groups(self, settings: Kind, keys: Sequence[str]) -> list[Sequence[str]]:
        """Return endpoints that respond to the same requests together, in the order given."""
        del settings
        return [keys]

    def title(self, name: str, settings: Kind, keys: Sequence[str]) -> str:
        """Return the title of a group of endpoints."""
        del settings, keys
        return name

    def unfit(self, settings: Kind, wanted: Wanted) -> Callable[[ServiceProfile], str | None]:
        """Return a function that says why an instance cannot serve the workload whatever its speed, or None."""
        del settings, wanted
        return lambda _: None

    def caveats(self, settings: Kind, keys: Sequence[str], *, local: bool) -> list[str]:
        """Return what the figures of these endpoints do not say, a sentence each."""
        del settings, keys, local
        return []


def summary_below(url: str) -> Summary:
    """Return the summary of the build below an `s3://` URL; errors of the client library pass through."""
    summary: Summary = json.loads(read_object(f"{url}summary.json"))
    return summary


def first_target(workload: DeployedWorkload[Kind], key: str, endpoint: SageMakerEndpoint) -> Target:
    """Return the first production variant of an endpoint, or its inference component."""
    name = workload.endpoint_name(key)
    component = component_name(name) if endpoint.hosts_component else None
    return Target(name, next(iter(endpoint.production_types)), component)
