"""Where the requests of a load test go: the endpoints of a deployed workload."""

from typing import Any

from load_tests.closed_loop import Target
from load_tests.deployed import DeployedWorkload
from load_tests.kinds import KINDS
from load_tests.kinds.base import Reached, Served, first_target
from stacks.settings.deployment import Deployment


def deployed_workload(deployment: Deployment, name: str) -> DeployedWorkload[Any]:
    """Return a workload of a deployment; raises ValueError for one that the deployment does not have."""
    if name not in deployment.workloads:
        raise ValueError(f"workload is {name!r}: choose from {', '.join(deployment.workloads)}")
    return DeployedWorkload(deployment, name, deployment.workloads[name])


def served(workload: DeployedWorkload[Any], key: str | None, reached: Reached) -> list[Served]:
    """Return every variant of an endpoint, or of all endpoints that can be reached.

    Raises ValueError for an endpoint that the workload does not have or that is out of reach; errors of the client
    library and of httpx pass through.
    """
    endpoints = workload.settings.served
    if key is not None and key not in endpoints:
        raise ValueError(f"endpoint is {key!r}: choose from {', '.join(endpoints)}")
    kind = KINDS[workload.settings.kind]
    if reached.hosts and not kind.serves_by_path:
        raise ValueError(
            f"host is {', '.join(reached.hosts)}: workloads of kind {workload.settings.kind} are reached by "
            "InvokeEndpoint only; leave it out"
        )
    found = [each for name in endpoints if key in (None, name) for each in kind.targets(workload, name, reached)]
    if not found:
        where = f"endpoint {key}" if key is not None else f"every endpoint of {workload.name}"
        raise ValueError(f"{where} is a fleet on EC2, which the local account does not run: give --host")
    return found


def scaling_target(workload: DeployedWorkload[Any], key: str | None) -> tuple[str, Target]:
    """Return key and target of an endpoint that scales, the first without a key; raises ValueError."""
    endpoints = workload.settings.sagemaker_endpoints
    if key is not None and key not in endpoints:
        raise ValueError(f"endpoint is {key!r}: choose from {', '.join(endpoints)}")
    scaled = [name for name, endpoint in endpoints.items() if endpoint.scales]
    if not scaled or (key is not None and key not in scaled):
        raise ValueError(f"endpoint {key or workload.name} has no scaling: set it in the deployment")
    chosen = key or scaled[0]
    return chosen, first_target(workload, chosen, endpoints[chosen])
