"""The kind `neuron_encoder` in load tests and reports."""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from load_tests.closed_loop import Request
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.base import Described, Reached, Served, Summary, WorkloadKind, summary_below
from load_tests.payloads import encoder
from load_tests.plan import HttpTarget
from load_tests.report.model import Quality
from sizing.facts import Facts
from stacks.naming import camel
from stacks.settings.neuron_encoder import Hosting, NeuronEncoder


class NeuronEncoderKind(WorkloadKind[NeuronEncoder]):
    """Question answering on NeuronCores, each copy of the model with a path of its own."""

    question: ClassVar[str] = "What do packed NeuronCores give?"
    facts: ClassVar[Facts] = Facts(payload_mib=0.01, memory_gib=4.0, accelerator=True)
    serves_by_path: ClassVar[bool] = True

    def requests(self, workload: DeployedWorkload[NeuronEncoder], key: str) -> list[Request]:
        """Return the project's own questions."""
        del workload, key
        return encoder.requests()

    def summaries(self, workload: DeployedWorkload[NeuronEncoder]) -> dict[str, Summary]:
        """Return the summary of every model's build."""
        return {
            model: summary_below(workload.outputs[f"{camel(model)}Artifacts"]) for model in workload.settings.models
        }

    def qualities(self, summary: Summary) -> dict[str, Quality]:
        """Return how far the traced model's logits are from the original's."""
        parity = summary["parity"]
        quality = Quality(
            metric="largest difference of a logit",
            value=parity["largest"] or 0.0,
            reference=None,
            kept=None,
            samples=None,
            passed=not parity["checked"] or parity["largest"] <= parity["tolerance"],
        )
        return {"": quality}

    def describe(
        self, settings: NeuronEncoder, key: str, variant: str | None, summaries: Mapping[str, Summary]
    ) -> Described:
        """Return cores and copies of an endpoint, and its model's parity."""
        del variant
        endpoint = settings.endpoints[key]
        virtual = endpoint.virtual_cores
        cores = "NeuronCores" if virtual is None else f"{virtual} virtual NeuronCores"
        what = f"{cores}, {endpoint.copies_per_core} copies each"
        return Described(what, self.qualities(summaries[endpoint.model])[""])

    def targets(self, workload: DeployedWorkload[NeuronEncoder], key: str, reached: Reached) -> list[Served]:
        """Return a fleet, or an endpoint by the paths of its copies where its servers can be reached."""
        endpoint = workload.settings.endpoints[key]
        if endpoint.behind_load_balancer:
            return _fleet(workload, key, endpoint, reached)
        served = super().targets(workload, key, reached)
        if not reached.by_path or not endpoint.virtual_cores:
            return served
        urls = tuple(reached.hosts) or _replicas(workload.endpoint_name(key), reached)
        if not urls:
            return served
        target = HttpTarget(urls=urls, paths=copy_paths(range(endpoint.virtual_cores), endpoint.copies_per_core))
        return [Served(key, each.endpoint, each.variant, each.instance_type, target) for each in served]

    def caveats(self, settings: NeuronEncoder, keys: Sequence[str], *, local: bool) -> list[str]:
        """Say which endpoints have no accelerator."""
        del local
        virtual = [key for key in keys if settings.endpoints[key].virtual_cores is not None]
        return [f"{', '.join(virtual)}: emulated on CPU; not an Inferentia result."] if virtual else []


def copy_paths(cores: Iterable[int], copies: int) -> tuple[str, ...]:
    """Return the path of every copy of the model on every NeuronCore, as published."""
    return tuple(f"/predictions_neuron_core_{core}/model_{copy}" for core in cores for copy in range(copies))


def _replicas(name: str, reached: Reached) -> tuple[str, ...]:
    """Return the URLs of a local endpoint's replicas; none on AWS, where only SageMaker reaches a container."""
    if reached.ready is None:
        return ()
    urls = reached.ready(name)
    if not urls:
        raise ValueError(f"endpoint {name} has no replica that takes requests: deploy it, or wait until it is ready")
    return urls


def _fleet(workload: DeployedWorkload[NeuronEncoder], key: str, fleet: Hosting, reached: Reached) -> list[Served]:
    if reached.ready is not None and not reached.hosts:
        return []
    urls = tuple(reached.hosts) or (workload.outputs[f"{camel(key)}Url"],)
    processes = fleet.placement(fleet.instance_type, workload.settings.models[fleet.model]).processes
    paths = copy_paths((core for process in processes for core in process.cores), fleet.copies_per_core)
    target = HttpTarget(urls=urls, paths=paths)
    return [Served(key, workload.endpoint_name(key), None, fleet.instance_type, target)]
