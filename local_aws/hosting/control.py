"""The SageMaker control plane: one dispatch table over records, deployments, components and compilations."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from local_aws.account import time_scale
from local_aws.hosting import compilation, data_capture, endpoint_configs, models
from local_aws.hosting.alarms import Alarms
from local_aws.hosting.background import guarded
from local_aws.hosting.compilation import CompilationJobs
from local_aws.hosting.components import KIND as COMPONENT
from local_aws.hosting.components import Components
from local_aws.hosting.deployer import EndpointDeployer
from local_aws.hosting.errors import ApiError, refused
from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.records import KINDS, RecordStore
from local_aws.hosting.rollout import AlarmStates, Clock, Plan, Rollout, ScaledClock

Document = dict[str, Any]
_IN_PROGRESS = ("Creating", "Updating", "RollingBack")


class ControlPlane(RecordStore):
    """The records with SageMaker's API, and what serves them.

    alarms: returns the states of the alarms that an update watches. clock: passes the update's waits.
    """

    def __init__(
        self,
        state: Path,
        alarms: AlarmStates | None = None,
        clock: Clock | None = None,
        compiler: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        super().__init__(state / "hosting.json")
        alarms, clock = alarms or Alarms().states, clock or ScaledClock(time_scale())
        self.components = Components(state, self, alarms, clock)
        self._compilations = CompilationJobs(state, self, compiler)
        self._deployer = EndpointDeployer(state, self, self.components, alarms, clock)
        self.is_scaled: Callable[[str, str], bool] = lambda _endpoint, _variant: False
        self._tasks: set[asyncio.Task[None]] = set()
        self._handlers = self._table()

    @property
    def fleets(self) -> dict[str, Fleet]:
        """The fleets that serve, by endpoint."""
        return self._deployer.fleets

    @property
    def rollouts(self) -> dict[str, Rollout]:
        """The updates in progress, by endpoint."""
        return self._deployer.rollouts

    def restore(self) -> None:
        """Read what an earlier process wrote, and start its endpoints again."""
        self.read()
        for endpoint in self.all("Endpoint"):
            if endpoint["EndpointStatus"] == "Deleting":
                self._run(endpoint, self._deployer.remove(endpoint["EndpointName"]))
            elif endpoint["EndpointStatus"] != "Failed":
                endpoint["EndpointStatus"] = "Creating"
                self._run(endpoint, self._deployer.deploy(endpoint, endpoint["EndpointConfigName"]))
        self.components.restore()
        self._compilations.restore()

    async def close(self) -> None:
        """Stop every replica."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self.components.close(), self._compilations.close(), self._deployer.close())

    @property
    def operations(self) -> frozenset[str]:
        """Operations of the API that the local account has."""
        return frozenset(self._handlers)

    def handle(self, operation: str, request: Document) -> Document:
        """Respond to one API call; raise ApiError."""
        if operation not in self._handlers:
            raise ApiError("UnknownOperationException", f"the local account does not implement SageMaker {operation}")
        return self._handlers[operation](request)

    def _table(self) -> dict[str, Callable[[Document], Document]]:
        """Return every operation's handler, by its name."""
        table: dict[str, Callable[[Document], Document]] = {}
        for kind in KINDS:
            table[f"Create{kind}"] = partial(self.create, kind)
            table[f"Describe{kind}"] = partial(self.describe, kind)
            table[f"Delete{kind}"] = partial(self.delete, kind)
            table[f"List{kind}s"] = partial(self.page, kind)
        return table | {
            "CreateModel": self._create_model,
            "CreateEndpointConfig": self._create_config,
            "CreateEndpoint": self._create_endpoint,
            "UpdateEndpoint": self._update_endpoint,
            "DeleteEndpoint": self._delete_endpoint,
            "DescribeEndpoint": self._describe_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_weights,
            "AddTags": self.add_tags,
            "DeleteTags": self.delete_tags,
            "ListTags": self.list_tags,
            **self.components.handlers,
            **self._compilations.handlers,
            "ListCompilationJobs": self._list_compilations,
        }

    def status(self) -> list[Document]:
        """Return every endpoint with its replicas, for `inference local status`."""
        return [self._endpoint_status(endpoint) for endpoint in self.all("Endpoint")]

    def _endpoint_status(self, endpoint: Document) -> Document:
        name = endpoint["EndpointName"]
        variants = self.fleets[name].variants.values() if name in self.fleets else ()
        return {
            "endpoint": name,
            "status": endpoint["EndpointStatus"],
            "reason": endpoint.get("FailureReason", ""),
            "variants": [variant.status() for variant in variants] + self.components.status(name),
            **({"rollout": self.rollouts[name].status()} if name in self.rollouts else {}),
        }

    def endpoint(self, name: str) -> Document:
        """Return an endpoint's record; raise ApiError in SageMaker's words."""
        return self.get("Endpoint", name)

    def pick(self, name: str, variant: str | None) -> VariantFleet:
        """Return a variant of a served endpoint, by weight where none is named; raise KeyError for an unknown one."""
        return self._deployer.pick(name, variant)

    def serves(self, name: str, component: bool) -> bool:
        """Return whether there is an endpoint of a name, or an inference component, that is not being deleted."""
        kind = COMPONENT if component else "Endpoint"
        record = self.find(kind, name)
        return record is not None and record[f"{kind}Status"] != "Deleting"

    def hosts_components(self, name: str) -> bool:
        """Return whether a served endpoint leaves its models to inference components."""
        return not self.fleets[name].variants

    def _create_model(self, request: Document) -> Document:
        models.check(request)
        return self.create("Model", request)

    def _create_config(self, request: Document) -> Document:
        if self.find("EndpointConfig", request["EndpointConfigName"]) is None:
            endpoint_configs.check(request, self.get)
        return self.create("EndpointConfig", request)

    def _list_compilations(self, request: Document) -> Document:
        return self.page(compilation.KIND, {"SortOrder": "Ascending", **request})

    def _create_endpoint(self, request: Document) -> Document:
        config = request["EndpointConfigName"]
        self.get("EndpointConfig", config)
        response = self.create("Endpoint", request)
        endpoint = self.endpoint(request["EndpointName"])
        endpoint |= {"EndpointStatus": "Creating", "LastModifiedTime": time.time(), "ProductionVariants": []}
        self.save()
        self._run(endpoint, self._deployer.deploy(endpoint, config))
        return response

    def _update_endpoint(self, request: Document) -> Document:
        endpoint = self.endpoint(request["EndpointName"])
        if endpoint["EndpointStatus"] not in ("InService", "Failed"):
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        config = self.get("EndpointConfig", request["EndpointConfigName"])
        if self.components.on_endpoint(endpoint["EndpointName"]) and not endpoint_configs.hosts_components(config):
            raise ApiError(
                "ValidationException",
                f'Cannot update endpoint "{endpoint["EndpointArn"]}" with inference components to a configuration '
                "whose variants name models",
            )
        self._check_scaled(endpoint, config)
        retained = self._deployer.retained(endpoint, request)
        plan = self._plan(endpoint, config, request, retained.counts)
        endpoint |= {"EndpointStatus": "Updating", "LastModifiedTime": time.time()}
        endpoint.pop("FailureReason", None)
        self.save()
        self._run(endpoint, self._deployer.deploy(endpoint, request["EndpointConfigName"], retained, plan))
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _check_scaled(self, endpoint: Document, config: Document) -> None:
        """Raise ApiError if a configuration lacks a scaled variant or gives it another instance type.

        Source: "Update endpoints that use auto scaling" in the SageMaker developer guide.
        """
        served = self.find("EndpointConfig", endpoint["EndpointConfigName"])
        before, after = (endpoint_configs.instance_types(each) for each in (served or config, config))
        changed = [
            variant
            for variant, instance_type in before.items()
            if after.get(variant) != instance_type and self.is_scaled(endpoint["EndpointName"], variant)
        ]
        if changed:
            raise ApiError(
                "ValidationException",
                f'The variant(s) "{", ".join(changed)}" must be deregistered as scalable targets with AWS Auto Scaling '
                "before they can be removed or have their instance type updated.",
            )

    def _plan(self, endpoint: Document, config: Document, request: Document, counts: dict[str, int]) -> Plan:
        """Return the steps of an update; raise ApiError for what SageMaker refuses."""
        given = request.get("DeploymentConfig")
        if given is None and request.get("RetainDeploymentConfig"):
            given = endpoint.get("LastDeploymentConfig")
        variants = {
            each["VariantName"]: counts.get(each["VariantName"]) or int(each.get("InitialInstanceCount", 1))
            for each in config["ProductionVariants"]
        }
        plan = Plan.parse(given, list(variants.values()))
        old = self.fleets.get(endpoint["EndpointName"])
        if given is not None and old is not None and old.variants and set(old.production) != set(variants):
            raise ApiError(
                "ValidationException",
                f"DeploymentConfig needs the same variant names before and after: {', '.join(old.production)} are "
                f"served, {', '.join(variants)} configured",
            )
        if given is not None:
            endpoint["LastDeploymentConfig"] = given
        return plan

    def _delete_endpoint(self, request: Document) -> Document:
        endpoint = self.endpoint(request["EndpointName"])
        if endpoint["EndpointStatus"] in _IN_PROGRESS:
            raise ApiError("ValidationException", f'Cannot delete in-progress endpoint "{endpoint["EndpointArn"]}".')
        if names := [each["InferenceComponentName"] for each in self.components.on_endpoint(endpoint["EndpointName"])]:
            raise ApiError(
                "ValidationException",
                f'Cannot delete endpoint "{endpoint["EndpointArn"]}" with inference components: delete '
                f"{', '.join(names)} first",
            )
        if endpoint["EndpointStatus"] != "Deleting":
            endpoint["EndpointStatus"] = "Deleting"
            self.save()
            self._run(endpoint, self._deployer.remove(endpoint["EndpointName"]))
        return {}

    def _describe_endpoint(self, request: Document) -> Document:
        endpoint = dict(self.endpoint(request["EndpointName"]))
        config = self.find("EndpointConfig", endpoint["EndpointConfigName"])
        if "DataCaptureConfig" in endpoint:
            endpoint["DataCaptureConfig"] = data_capture.summary(endpoint["DataCaptureConfig"])
        if rollout := self.rollouts.get(endpoint["EndpointName"]):
            endpoint["PendingDeploymentSummary"] = rollout.pending()
        if config is not None and endpoint["EndpointName"] in self.fleets:
            endpoint["ProductionVariants"] = [
                *endpoint["ProductionVariants"],
                *self._deployer.component_variants(endpoint, config),
            ]
        return endpoint

    def _update_weights(self, request: Document) -> Document:
        endpoint = self.endpoint(request["EndpointName"])
        fleet = self.fleets.get(endpoint["EndpointName"])
        if endpoint["EndpointStatus"] != "InService" or fleet is None:
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        changes = request["DesiredWeightsAndCapacities"]
        names = [change["VariantName"] for change in changes]
        for name in names:
            if name not in fleet.variants:
                raise refused(f"Variant {name} does not exist")
            if names.count(name) > 1:
                raise refused(f"Variant {name} is changed more than once: name each variant once")
        if any("ServerlessUpdateConfig" in change for change in changes):
            raise refused("ServerlessUpdateConfig is only supported for serverless variants")
        endpoint["EndpointStatus"] = "Updating"
        endpoint.pop("FailureReason", None)
        self._run(endpoint, self._deployer.apply_weights(endpoint, fleet, changes))
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _run(self, endpoint: Document, work: Coroutine[Any, Any, None]) -> None:
        self.run(work, partial(self._deployer.fail, endpoint))

    def run(self, work: Coroutine[Any, Any, None], failed: Callable[[str], None]) -> None:
        """Schedule a background task; `failed` takes the reason if it raises."""
        task: asyncio.Task[None] = asyncio.create_task(guarded(work, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
