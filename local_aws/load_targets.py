"""Where the requests of a load test go: the endpoints of a deployment, in the local account or on AWS."""

from collections.abc import Sequence
from dataclasses import dataclass

from load_tests import neuron_encoder
from load_tests.plan import HttpTarget, SageMakerTarget
from local_aws.account import LocalAccount
from local_aws.deployed import ready_servers, stack_outputs
from stacks.naming import camel, component_name
from stacks.neuron_settings import NeuronEndpoint, NeuronFleet
from stacks.settings import ONLY_VARIANT, Deployment, Encoder, SavedModel


@dataclass(frozen=True, slots=True)
class Served:
    """One variant of an endpoint, or a fleet: its key in the deployment, and its name where it runs."""

    key: str
    endpoint: str
    variant: str | None
    instance_type: str
    target: SageMakerTarget | HttpTarget


def served(
    settings: Deployment,
    workload: str,
    key: str | None,
    *,
    account: LocalAccount | None,
    hosts: Sequence[str] = (),
    pairs: bool = True,
) -> list[Served]:
    """Every variant of an endpoint, or of all of them; raises ValueError for what there is not.

    hosts: servers to ask in place of those that are found, for neuron_encoder. pairs: whether a neuron_encoder endpoint of
    the local account is asked by NeuronCore and model, rather than by InvokeEndpoint, which knows neither. Errors of
    the client library and of httpx pass through.
    """
    found = settings.workloads.enabled.get(workload)
    if found is None:
        raise ValueError(f"workload is {workload!r}: choose from {', '.join(settings.workloads.enabled)}")
    if key is not None and key not in found.endpoints:
        raise ValueError(f"endpoint is {key!r}: choose from {', '.join(found.endpoints)}")
    if hosts and workload != neuron_encoder.WORKLOAD:
        raise ValueError(
            f"host is {', '.join(hosts)}: only neuron_encoder is asked on servers of its own; leave it out"
        )
    made: list[Served] = []
    for name, endpoint in found.endpoints.items():
        if key is not None and name != key:
            continue
        full = settings.endpoint_name(workload, name)
        if isinstance(endpoint, NeuronFleet):
            made += _fleet(settings, name, endpoint, account, hosts, alone=key is not None or bool(hosts))
        elif isinstance(endpoint, NeuronEndpoint):
            target = _neuron(full, endpoint, account, hosts) if pairs else None
            target = target or SageMakerTarget(endpoint=full, variant=ONLY_VARIANT)
            made.append(Served(name, full, ONLY_VARIANT, endpoint.instance_type, target))
        elif isinstance(found, Encoder):
            made += [
                Served(name, full, variant, each.instance_type, SageMakerTarget(endpoint=full, variant=variant))
                for variant, each in found.endpoints[name].production_variants.items()
            ]
        else:
            component = (
                component_name(full)
                if isinstance(found, SavedModel) and found.endpoints[name].inference_component is not None
                else None
            )
            target = SageMakerTarget(endpoint=full, variant=ONLY_VARIANT, component=component)
            made.append(Served(name, full, ONLY_VARIANT, endpoint.instance_types["instance_type"], target))
    if not made:
        raise ValueError(f"{workload} has only fleets on EC2, which the local account does not run: give --host")
    return made


def _neuron(
    name: str, endpoint: NeuronEndpoint, account: LocalAccount | None, hosts: Sequence[str]
) -> HttpTarget | SageMakerTarget | None:
    """Servers whose NeuronCores can be addressed; None on AWS, where only SageMaker reaches an endpoint's container."""
    urls = tuple(hosts) or (_replicas(account, name) if account is not None else ())
    if not urls:
        return None
    cores = range(endpoint.virtual_cores or 0)
    return HttpTarget(urls=urls, paths=neuron_encoder.pairs(cores, endpoint.copies_per_core)) if cores else None


def _replicas(account: LocalAccount, name: str) -> tuple[str, ...]:
    urls = ready_servers(account).get(name, ())
    if not urls:
        raise ValueError(f"endpoint {name} has no replica that takes requests: deploy it, or wait until it is there")
    return urls


def _fleet(
    settings: Deployment,
    key: str,
    fleet: NeuronFleet,
    account: LocalAccount | None,
    hosts: Sequence[str],
    *,
    alone: bool,
) -> list[Served]:
    workload = settings.workloads.neuron_encoder
    assert workload is not None
    if account is not None and not hosts:
        if alone:
            raise ValueError(f"endpoint {key} is a fleet on EC2, which the local account does not run: give --host")
        return []
    urls = tuple(hosts) or (stack_outputs(settings, neuron_encoder.WORKLOAD)[f"{camel(key)}Url"],)
    processes = fleet.placement(fleet.instance_type, workload.models[fleet.model]).processes
    paths = neuron_encoder.pairs((core for process in processes for core in process.cores), fleet.copies_per_core)
    name = settings.endpoint_name(neuron_encoder.WORKLOAD, key)
    return [Served(key, name, None, fleet.instance_type, HttpTarget(urls=urls, paths=paths))]
