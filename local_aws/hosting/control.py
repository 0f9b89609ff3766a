"""The SageMaker control plane: models, endpoint configurations and endpoints."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from local_aws.account import ACCOUNT_ID, REGION, time_scale, write_json
from local_aws.hosting import compilation, components, endpoint_configs, listing
from local_aws.hosting.alarms import Alarms
from local_aws.hosting.artifacts import ModelDataError
from local_aws.hosting.compilation import CompilationJobs
from local_aws.hosting.components import Components
from local_aws.hosting.errors import ApiError
from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.models import container_of, replica_spec
from local_aws.hosting.replica import ReplicaFailedError
from local_aws.hosting.rollout import AlarmStates, Clock, Plan, Rollout, ScaledClock

logger = logging.getLogger("control")
Document = dict[str, Any]
_KINDS = {
    "Model": "model",
    "EndpointConfig": "endpoint-config",
    "Endpoint": "endpoint",
    components.KIND: "inference-component",
    compilation.KIND: "compilation-job",
}
_DEFAULT_START_SECONDS = 300
_SAVE_SECONDS = 2.0
_IN_PROGRESS = ("Creating", "Updating", "RollingBack")


class ControlPlane:
    """Holds what was created, written to disk at every change, and the fleets that serve it.

    alarms: gives the states of the alarms that an update watches. clock: passes its waits.
    """

    def __init__(self, state: Path, alarms: AlarmStates | None = None, clock: Clock | None = None) -> None:
        self._state = state
        self._file = state / "hosting.json"
        self._records: dict[str, dict[str, Document]] = {kind: {} for kind in _KINDS}
        self._tags: dict[str, dict[str, str]] = {}
        self.fleets: dict[str, Fleet] = {}
        self.rollouts: dict[str, Rollout] = {}
        self._alarms = alarms or Alarms().states
        self._clock = clock or ScaledClock(time_scale())
        self.components = Components(state, self, self._alarms, self._clock)
        self._compilations = CompilationJobs(state, self)
        self._tasks: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Reads what an earlier process wrote, and starts its endpoints again."""
        if not self._file.exists():
            return
        content = json.loads(self._file.read_text())
        self._records |= content["records"]
        self._tags = content["tags"]
        for endpoint in self._records["Endpoint"].values():
            if endpoint["EndpointStatus"] != "Failed":
                endpoint["EndpointStatus"] = "Creating"
                self.run(self._deploy(endpoint, endpoint["EndpointConfigName"], None))
        self.components.restore()
        self._compilations.restore()

    async def close(self) -> None:
        """Stops every replica."""
        for task in self._tasks:
            task.cancel()
        fleets = [fleet.stop() for fleet in self.fleets.values()]
        fleets += [rollout.new.stop() for rollout in self.rollouts.values()]
        await asyncio.gather(self.components.close(), self._compilations.close(), *fleets)

    def handle(self, operation: str, request: Document) -> Document:
        """Answers one API call; raises ApiError."""
        handlers: dict[str, Callable[[Document], Document]] = {
            "CreateEndpoint": self._create_endpoint,
            "UpdateEndpoint": self._update_endpoint,
            "DeleteEndpoint": self._delete_endpoint,
            "DescribeEndpoint": self._describe_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_weights,
            "AddTags": self._add_tags,
            "DeleteTags": self._delete_tags,
            "ListTags": self._list_tags,
            **self.components.handlers,
            **self._compilations.handlers,
            "ListCompilationJobs": lambda asked: listing.page(
                compilation.KIND, self.all(compilation.KIND), {"SortOrder": "Ascending", **asked}
            ),
        }
        if operation in handlers:
            return handlers[operation](request)
        for kind in _KINDS:
            if operation == f"Create{kind}":
                return self.create(kind, request)
            if operation == f"Describe{kind}":
                return dict(self.get(kind, request[f"{kind}Name"]))
            if operation == f"Delete{kind}":
                self.get(kind, request[f"{kind}Name"])
                self.forget(kind, request[f"{kind}Name"])
                return {}
            if operation == f"List{kind}s":
                return listing.page(kind, self.all(kind), request)
        raise ApiError("UnknownOperationException", f"the local account does not implement SageMaker {operation}")

    def status(self) -> list[Document]:
        """One row per replica for `inference local status`."""
        return [
            {
                "endpoint": name,
                "status": endpoint["EndpointStatus"],
                "reason": endpoint.get("FailureReason", ""),
                "variants": [
                    variant.status() for variant in (self.fleets[name].variants.values() if name in self.fleets else [])
                ]
                + self.components.status(name),
                **({"rollout": self.rollouts[name].status()} if name in self.rollouts else {}),
            }
            for name, endpoint in self._records["Endpoint"].items()
        ]

    def endpoint(self, name: str) -> Document:
        """An endpoint's record; raises ApiError as SageMaker words it."""
        return self.get("Endpoint", name)

    def pick(self, name: str, variant: str | None) -> VariantFleet:
        """A variant of a served endpoint, by weight without a name; raises KeyError for one that there is not."""
        if name in self.rollouts:
            return self.rollouts[name].pick(variant)
        fleet = self.fleets[name]
        return fleet.pick_variant() if variant is None else fleet.production[variant]

    def hosts_components(self, name: str) -> bool:
        """Whether an endpoint that is served leaves its models to inference components."""
        return not self.fleets[name].variants

    def all(self, kind: str) -> list[Document]:
        """Every record of a kind."""
        return list(self._records[kind].values())

    def forget(self, kind: str, name: str) -> None:
        """Removes a record."""
        del self._records[kind][name]
        self.save()

    def create(self, kind: str, request: Document) -> Document:
        """Makes a record with an ARN and tags; raises ApiError when it is there."""
        name = request[f"{kind}Name"]
        arn = _arn(kind, name)
        if name in self._records[kind]:
            raise ApiError(
                "ValidationException", f'Cannot create already existing {_KINDS[kind].replace("-", " ")} "{arn}".'
            )
        if kind == "EndpointConfig":
            endpoint_configs.check(request, self.get)
        record = {key: value for key, value in request.items() if key != "Tags"}
        record |= {f"{kind}Arn": arn, "CreationTime": time.time()}
        self._records[kind][name] = record
        self._tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        self.save()
        return {f"{kind}Arn": arn}

    def get(self, kind: str, name: str) -> Document:
        """A record; raises ApiError as SageMaker words it."""
        record = self._records[kind].get(name)
        if record is None:
            noun = _KINDS[kind].replace("-", " ")
            raise ApiError("ValidationException", f'Could not find {noun} "{_arn(kind, name)}".')
        return record

    def _create_endpoint(self, request: Document) -> Document:
        config = request["EndpointConfigName"]
        self.get("EndpointConfig", config)
        answer = self.create("Endpoint", request)
        endpoint = self._records["Endpoint"][request["EndpointName"]]
        endpoint |= {"EndpointStatus": "Creating", "LastModifiedTime": time.time(), "ProductionVariants": []}
        self.save()
        self.run(self._deploy(endpoint, config, None))
        return answer

    def _update_endpoint(self, request: Document) -> Document:
        endpoint = self.get("Endpoint", request["EndpointName"])
        if endpoint["EndpointStatus"] not in ("InService", "Failed"):
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        config = self.get("EndpointConfig", request["EndpointConfigName"])
        if self.components.on_endpoint(endpoint["EndpointName"]) and not endpoint_configs.hosts_components(config):
            raise ApiError(
                "ValidationException",
                f'Cannot update endpoint "{endpoint["EndpointArn"]}" with inference components to a configuration '
                "whose variants name models",
            )
        counts = None
        if request.get("RetainAllVariantProperties") and (fleet := self.fleets.get(endpoint["EndpointName"])):
            counts = {name: variant.desired for name, variant in fleet.variants.items()}
        plan = self._plan(endpoint, config, request, counts or {})
        endpoint |= {"EndpointStatus": "Updating", "LastModifiedTime": time.time()}
        endpoint.pop("FailureReason", None)
        self.save()
        self.run(self._deploy(endpoint, request["EndpointConfigName"], counts, plan))
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _plan(self, endpoint: Document, config: Document, request: Document, counts: dict[str, int]) -> Plan:
        """The steps of an update; raises ApiError for what SageMaker refuses."""
        asked = request.get("DeploymentConfig")
        if asked is None and request.get("RetainDeploymentConfig"):
            asked = endpoint.get("LastDeploymentConfig")
        variants = {
            each["VariantName"]: counts.get(each["VariantName"]) or int(each.get("InitialInstanceCount", 1))
            for each in config["ProductionVariants"]
        }
        plan = Plan.parse(asked, list(variants.values()))
        old = self.fleets.get(endpoint["EndpointName"])
        if asked is not None and old is not None and old.variants and set(old.production) != set(variants):
            raise ApiError(
                "ValidationException",
                f"DeploymentConfig needs the same variant names before and after: {', '.join(old.production)} are "
                f"served, {', '.join(variants)} configured",
            )
        if asked is not None:
            endpoint["LastDeploymentConfig"] = asked
        return plan

    def _delete_endpoint(self, request: Document) -> Document:
        endpoint = self.get("Endpoint", request["EndpointName"])
        if endpoint["EndpointStatus"] in _IN_PROGRESS:
            raise ApiError("ValidationException", f'Cannot delete in-progress endpoint "{endpoint["EndpointArn"]}".')
        if names := [each["InferenceComponentName"] for each in self.components.on_endpoint(endpoint["EndpointName"])]:
            raise ApiError(
                "ValidationException",
                f'Cannot delete endpoint "{endpoint["EndpointArn"]}" with inference components: delete '
                f"{', '.join(names)} first",
            )
        endpoint["EndpointStatus"] = "Deleting"
        self.save()
        self.run(self._remove(endpoint["EndpointName"]))
        return {}

    async def _remove(self, name: str) -> None:
        fleet = self.fleets.pop(name, None)
        if fleet is not None:
            await fleet.stop()
        del self._records["Endpoint"][name]
        self.save()

    async def _deploy(
        self, endpoint: Document, config_name: str, counts: dict[str, int] | None, plan: Plan | None = None
    ) -> None:
        """Brings up a new fleet beside the old one and moves over; a failure leaves the old one serving."""
        name, plan = endpoint["EndpointName"], plan or Plan()
        config = self._records["EndpointConfig"][config_name]
        old = self.fleets.get(name)
        try:
            variants = [
                await asyncio.to_thread(
                    self._variant,
                    variant,
                    (counts or {}).get(variant["VariantName"]),
                    variant not in config["ProductionVariants"],
                )
                for variant in endpoint_configs.variants(config)
                if "ModelName" in variant
            ]
            wanted = {variant.name: variant.desired for variant in variants}
            if old is not None and old.variants:
                for variant in variants:
                    variant.desired = plan.first(variant.desired)
            fleet = Fleet(name, self._state, variants, self.save)
            await fleet.start()
            reason = await self._move_over(endpoint, config_name, old, fleet, plan, wanted)
        except (ReplicaFailedError, ModelDataError, ApiError) as error:
            reason = str(error)
        except Exception as error:
            logger.exception("a deployment failed")
            reason = f"internal failure: {type(error).__name__}; see `inference local logs hosting`"
        if reason is not None:
            endpoint["FailureReason"] = reason
            endpoint["EndpointStatus"] = "Failed" if old is None else "InService"
        else:
            self.fleets[name] = fleet
            moved = endpoint_configs.instance_types(
                self._records["EndpointConfig"].get(endpoint["EndpointConfigName"], config)
            )
            endpoint["EndpointConfigName"] = config_name
            if moved != endpoint_configs.instance_types(config):
                await self.components.move(name)
            endpoint["EndpointStatus"] = "InService"
            endpoint |= self._summaries(fleet, config)
            if "DataCaptureConfig" in config:
                endpoint["DataCaptureConfig"] = config["DataCaptureConfig"]
        endpoint["LastModifiedTime"] = time.time()
        self.save()
        if old is not None and self.fleets[name] is not old:
            await old.stop()

    async def _move_over(
        self, endpoint: Document, config_name: str, old: Fleet | None, new: Fleet, plan: Plan, counts: dict[str, int]
    ) -> str | None:
        """Moves the requests from one fleet to the other; gives the reason when they had to go back."""
        if old is None or not old.variants or set(old.production) != set(new.production):
            return None
        name = endpoint["EndpointName"]

        def changed() -> None:
            endpoint["EndpointStatus"] = "RollingBack" if rollout.rolling_back else "Updating"
            self.save()

        rollout = Rollout(
            old, new, plan, config=config_name, counts=counts, alarms=self._alarms, clock=self._clock, changed=changed
        )
        self.rollouts[name] = rollout
        try:
            return await rollout.run()
        finally:
            # Nothing awaits from here to the switch to the new fleet, so no request comes in between.
            del self.rollouts[name]

    def _variant(self, variant: Document, count: int | None, shadow: bool) -> VariantFleet:
        model = self.get("Model", variant["ModelName"])
        spec = replica_spec(self._state, container_of(model), variant["InstanceType"])
        return VariantFleet(
            name=variant["VariantName"],
            spec=replace(spec, isolated=bool(model.get("EnableNetworkIsolation"))),
            desired=count or int(variant.get("InitialInstanceCount", 1)),
            weight=float(variant.get("InitialVariantWeight", 1)),
            start_timeout_seconds=float(
                variant.get("ContainerStartupHealthCheckTimeoutInSeconds", _DEFAULT_START_SECONDS)
            ),
            shadow=shadow,
        )

    def _summaries(self, fleet: Fleet, config: Document) -> Document:
        shadows = [self._variant_summary(variant, config) for variant in fleet.shadows]
        production = [self._variant_summary(variant, config) for variant in fleet.production.values()]
        return {"ProductionVariants": production, **({"ShadowProductionVariants": shadows} if shadows else {})}

    def _variant_summary(self, variant: VariantFleet, config: Document) -> Document:
        configured = next(v for v in endpoint_configs.variants(config) if v["VariantName"] == variant.name)
        image = container_of(self.get("Model", configured["ModelName"]))["Image"]
        return {
            "VariantName": variant.name,
            "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": time.time()}],
            "CurrentWeight": variant.weight,
            "DesiredWeight": variant.weight,
            "CurrentInstanceCount": len(variant.ready),
            "DesiredInstanceCount": variant.desired,
        }

    def _describe_endpoint(self, request: Document) -> Document:
        endpoint = dict(self.get("Endpoint", request["EndpointName"]))
        config = self._records["EndpointConfig"].get(endpoint["EndpointConfigName"])
        if rollout := self.rollouts.get(endpoint["EndpointName"]):
            endpoint["PendingDeploymentSummary"] = rollout.pending()
        if config is not None and endpoint["EndpointName"] in self.fleets:
            endpoint["ProductionVariants"] = endpoint["ProductionVariants"] + [
                self._component_variant(endpoint["EndpointName"], variant)
                for variant in config["ProductionVariants"]
                if "ModelName" not in variant
            ]
        return endpoint

    def _component_variant(self, endpoint: str, variant: Document) -> Document:
        current, desired = self.components.instances(endpoint, variant)
        weight = float(variant.get("InitialVariantWeight", 1))
        return {
            "VariantName": variant["VariantName"],
            "CurrentWeight": weight,
            "DesiredWeight": weight,
            "CurrentInstanceCount": current,
            "DesiredInstanceCount": desired,
            **{name: variant[name] for name in ("ManagedInstanceScaling", "RoutingConfig") if name in variant},
        }

    def _update_weights(self, request: Document) -> Document:
        endpoint = self.get("Endpoint", request["EndpointName"])
        fleet = self.fleets.get(endpoint["EndpointName"])
        if endpoint["EndpointStatus"] != "InService" or fleet is None:
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        for change in request["DesiredWeightsAndCapacities"]:
            if change["VariantName"] not in fleet.variants:
                raise ApiError("ValidationException", f"Variant {change['VariantName']} does not exist")
        endpoint["EndpointStatus"] = "Updating"
        self.run(self._apply_weights(endpoint, fleet, request["DesiredWeightsAndCapacities"]))
        return {"EndpointArn": endpoint["EndpointArn"]}

    async def _apply_weights(self, endpoint: Document, fleet: Fleet, changes: list[Document]) -> None:
        try:
            for change in changes:
                variant = fleet.variants[change["VariantName"]]
                variant.weight = float(change.get("DesiredWeight", variant.weight))
                await fleet.resize(variant.name, int(change.get("DesiredInstanceCount", variant.desired)))
        except ReplicaFailedError as error:
            endpoint["FailureReason"] = str(error)
        config = self._records["EndpointConfig"][endpoint["EndpointConfigName"]]
        endpoint |= self._summaries(fleet, config)
        endpoint["EndpointStatus"] = "InService"
        endpoint["LastModifiedTime"] = time.time()
        self.save()

    def _add_tags(self, request: Document) -> Document:
        tags = self._tags.setdefault(request["ResourceArn"], {})
        tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        self.save()
        return self._list_tags(request)

    def _delete_tags(self, request: Document) -> Document:
        for key in request["TagKeys"]:
            self._tags.get(request["ResourceArn"], {}).pop(key, None)
        self.save()
        return {}

    def _list_tags(self, request: Document) -> Document:
        tags = self._tags.get(request["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it beside everything else."""
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def save(self) -> None:
        """Writes the records down; where the disk takes nothing now, later."""
        try:
            write_json(self._file, {"records": self._records, "tags": self._tags})
        except FileNotFoundError:
            # The account was taken down, and its folder with it.
            return
        except OSError as error:
            logger.warning("%s could not be written, and will be again in %g s: %s", self._file, _SAVE_SECONDS, error)
            asyncio.get_running_loop().call_later(_SAVE_SECONDS, self.save)


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:{_KINDS[kind]}/{name}"
