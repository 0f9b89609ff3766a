"""Inference components: copies of a model on an endpoint's instances, each copy a replica with its own memory."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from local_aws.hosting.background import guarded
from local_aws.hosting.errors import ApiError, refused
from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.model_data import ModelData
from local_aws.hosting.models import container_of, replica_spec
from local_aws.hosting.placement import Compute, instances_needed
from local_aws.hosting.rollout import AlarmStates, Clock, Plan, Rollout

Document = dict[str, Any]
KIND = "InferenceComponent"
LABEL = "InferenceComponents"
"""Prefix of the components' log file names, as on AWS it is of their log groups."""
_START_SECONDS = 300
_BUSY = ("Creating", "Updating", "Deleting")


class Plane(Protocol):
    """The part of the control plane that components need, which holds their records."""

    def get(self, kind: str, name: str) -> Document:
        """Return a record; raise ApiError."""

    def all(self, kind: str) -> list[Document]:
        """Return every record of a kind."""

    def create(self, kind: str, request: Document) -> Document:
        """Create a record with an ARN and tags; raise ApiError if it exists."""

    def forget(self, kind: str, name: str) -> None:
        """Remove a record."""

    def save(self) -> None:
        """Write the records to disk."""

    def run(self, work: Coroutine[Any, Any, None], failed: Callable[[str], None]) -> None:
        """Schedule a background task; `failed` takes the reason if it raises."""


def variant_of(config: Document, name: str | None) -> Document:
    """Return the variant of an endpoint configuration that holds components; raise ApiError.

    name: None means the first variant.
    """
    variants: list[Document] = config["ProductionVariants"]
    match = next((variant for variant in variants if name in (None, variant["VariantName"])), None)
    if match is None:
        names = ", ".join(variant["VariantName"] for variant in variants)
        raise ApiError("ValidationException", f"Could not find variant {name}; the endpoint has: {names}")
    if "ModelName" in match:
        raise ApiError(
            "ValidationException",
            f"variant {match['VariantName']} holds the model {match['ModelName']}: inference components need a "
            "variant without a model in its endpoint configuration",
        )
    return match


def instance_limits(variant: Document) -> tuple[int, int]:
    """Return the smallest and the largest instance count of a variant."""
    managed = variant.get("ManagedInstanceScaling") or {}
    initial = int(variant.get("InitialInstanceCount", 1))
    if managed.get("Status") != "ENABLED":
        return initial, initial
    return int(managed.get("MinInstanceCount", 1)), int(managed.get("MaxInstanceCount", initial))


class Components:
    """Inference components: created, resized, updated and deleted, with the fleets that serve them.

    alarms: returns the states of the alarms that an update watches. clock: passes the update's waits.
    """

    def __init__(self, state: Path, plane: Plane, alarms: AlarmStates, clock: Clock) -> None:
        self._state, self._plane = state, plane
        self._alarms, self._clock = alarms, clock
        self.fleets: dict[str, Fleet] = {}
        self.rollouts: dict[str, Rollout] = {}

    @property
    def handlers(self) -> dict[str, Callable[[Document], Document]]:
        """Operations of the API, by name."""
        return {
            "CreateInferenceComponent": self._create,
            "DescribeInferenceComponent": self._describe,
            "UpdateInferenceComponent": self._update,
            "UpdateInferenceComponentRuntimeConfig": self._resize,
            "DeleteInferenceComponent": self._delete,
        }

    def restore(self) -> None:
        """Start the copies that an earlier process had."""
        for record in self._plane.all(KIND):
            if record["InferenceComponentStatus"] == "Deleting":
                self._run(record, self._remove(record["InferenceComponentName"]))
            elif record["InferenceComponentStatus"] != "Failed":
                self._begin(record, "Creating")
                self._run(record, self._deploy(record, record["Specification"], _copies(record)))

    async def close(self) -> None:
        """Stop every copy."""
        fleets = [*self.fleets.values(), *(rollout.new for rollout in self.rollouts.values())]
        await asyncio.gather(*(fleet.stop() for fleet in fleets))

    def copies(self, name: str) -> VariantFleet | None:
        """Return a component's copies, or None before its first deployment."""
        fleet = self.fleets.get(name)
        return next(iter(fleet.variants.values())) if fleet is not None else None

    def pick(self, name: str) -> VariantFleet | None:
        """Return the copies for a request; during an update, either the old or the new ones."""
        return self.rollouts[name].pick(None) if name in self.rollouts else self.copies(name)

    def on_endpoint(self, endpoint: str) -> list[Document]:
        """Return the records of an endpoint's components."""
        return [record for record in self._plane.all(KIND) if record["EndpointName"] == endpoint]

    def status(self, endpoint: str) -> list[Document]:
        """Return what `inference local status` shows of an endpoint's components, including failed ones."""
        rows = []
        for record in self.on_endpoint(endpoint):
            copies = self.copies(record["InferenceComponentName"])
            none: Document = {"desired": _copies(record), "restarts": 0, "replicas": []}
            row = none if copies is None else copies.status()
            notes = (row.get("note", ""), record.get("FailureReason", ""))
            rows.append(row | {"name": record["InferenceComponentName"], "note": "; ".join(n for n in notes if n)})
        return rows

    def instances(self, endpoint: str, variant: Document) -> tuple[int, int]:
        """Return current and desired instances of a variant: what its copies need, within its limits."""
        fewest, most = instance_limits(variant)
        counts = []
        for desired in (False, True):
            needed: list[Compute] = []
            for record in self.on_endpoint(endpoint):
                fleet = self.copies(record["InferenceComponentName"])
                running = 0 if fleet is None else fleet.desired if desired else len(fleet.ready)
                needed += [Compute.of(record["Specification"])] * running
            count = instances_needed(needed, Compute.on(variant["InstanceType"]))
            counts.append(max(fewest, min(most, count or 0)))
        return counts[0], counts[1]

    async def move(self, endpoint: str) -> None:
        """Redeploy an endpoint's components after its instances have changed."""
        for record in self.on_endpoint(endpoint):
            if record["InferenceComponentStatus"] == "InService":
                self._begin(record, "Updating")
                work = self._deploy(record, record["Specification"], _copies(record))
                await guarded(work, partial(self._fail, record))

    def _create(self, request: Document) -> Document:
        endpoint = self._plane.get("Endpoint", request["EndpointName"])
        if endpoint["EndpointStatus"] != "InService":
            raise ApiError(
                "ValidationException",
                f'Cannot create inference component on endpoint "{endpoint["EndpointArn"]}" that is '
                f"{endpoint['EndpointStatus']}: wait until it is InService",
            )
        config = self._plane.get("EndpointConfig", endpoint["EndpointConfigName"])
        variant = variant_of(config, request.get("VariantName"))
        specification = request.get("Specification") or {}
        self._check(request, specification)
        copies = int(request["RuntimeConfig"]["CopyCount"])
        self._check_room(request["InferenceComponentName"], specification, copies, endpoint["EndpointName"], variant)
        response = self._plane.create(KIND, request)
        record = self._plane.get(KIND, request["InferenceComponentName"])
        record |= {
            "VariantName": variant["VariantName"],
            "EndpointArn": endpoint["EndpointArn"],
            "RuntimeConfig": {"DesiredCopyCount": copies},
        }
        if "DeploymentConfig" in record:
            record["LastDeploymentConfig"] = record.pop("DeploymentConfig")
        self._begin(record, "Creating")
        self._run(record, self._deploy(record, specification, copies))
        return response

    def _describe(self, request: Document) -> Document:
        record = dict(self._plane.get(KIND, request["InferenceComponentName"]))
        copies = self.copies(record["InferenceComponentName"])
        record["RuntimeConfig"] = {
            "DesiredCopyCount": _copies(record),
            "CurrentCopyCount": len(copies.ready) if copies is not None else 0,
        }
        return record

    def _update(self, request: Document) -> Document:
        record = self._settled(request["InferenceComponentName"])
        specification = request.get("Specification") or record["Specification"]
        copies = int((request.get("RuntimeConfig") or {}).get("CopyCount", _copies(record)))
        self._check({"RuntimeConfig": {"CopyCount": copies}}, specification)
        self._check_update(record, specification, copies)
        config = request.get("DeploymentConfig") or record.get("LastDeploymentConfig")
        same = specification == record["Specification"] and record["InferenceComponentName"] in self.fleets
        plan = Plan() if same or not copies else Plan.parse(config, [copies])
        if config is not None:
            record["LastDeploymentConfig"] = config
        self._begin(record, "Updating")
        if same:
            self._run(record, self._apply_count(record, copies))
        else:
            self._run(record, self._deploy(record, specification, copies, plan))
        return {"InferenceComponentArn": record["InferenceComponentArn"]}

    def _resize(self, request: Document) -> Document:
        record = self._settled(request["InferenceComponentName"])
        copies = int(request["DesiredRuntimeConfig"]["CopyCount"])
        if record["InferenceComponentName"] not in self.fleets:
            raise ApiError(
                "ValidationException",
                f'Cannot update failed inference component "{record["InferenceComponentArn"]}": update its '
                "specification, or delete it",
            )
        self._check_update(record, record["Specification"], copies)
        self._begin(record, "Updating")
        self._run(record, self._apply_count(record, copies))
        return {"InferenceComponentArn": record["InferenceComponentArn"]}

    def _delete(self, request: Document) -> Document:
        record = self._settled(request["InferenceComponentName"])
        self._begin(record, "Deleting")
        self._run(record, self._remove(record["InferenceComponentName"]))
        return {}

    def _settled(self, name: str) -> Document:
        record = self._plane.get(KIND, name)
        if record["InferenceComponentStatus"] in _BUSY:
            raise ApiError(
                "ValidationException",
                f'Cannot change inference component "{record["InferenceComponentArn"]}" that is '
                f"{record['InferenceComponentStatus']}",
            )
        return record

    def _check(self, request: Document, specification: Document) -> None:
        if "MinMemoryRequiredInMb" not in (specification.get("ComputeResourceRequirements") or {}):
            raise ApiError(
                "ValidationException", "Specification.ComputeResourceRequirements.MinMemoryRequiredInMb is missing"
            )
        if "CopyCount" not in (request.get("RuntimeConfig") or {}):
            raise ApiError("ValidationException", "RuntimeConfig.CopyCount is missing")
        if self._container(specification).get("Mode") == "MultiModel":
            raise ApiError(
                "ValidationException",
                f"model {specification['ModelName']} has Mode MultiModel, which inference components do not support",
            )

    def _check_update(self, record: Document, specification: Document, copies: int) -> None:
        variant = self._variant(record)
        self._check_room(record["InferenceComponentName"], specification, copies, record["EndpointName"], variant)

    def _check_room(self, name: str, specification: Document, copies: int, endpoint: str, variant: Document) -> None:
        wanted = [Compute.of(specification)] * copies
        for other in self.on_endpoint(endpoint):
            if other["InferenceComponentName"] != name and other["InferenceComponentStatus"] != "Failed":
                wanted += [Compute.of(other["Specification"])] * _copies(other)
        needed = instances_needed(wanted, Compute.on(variant["InstanceType"]))
        _, most = instance_limits(variant)
        if needed is None or needed > most:
            why = (
                f"a copy does not fit on {variant['InstanceType']}"
                if needed is None
                else f"they need {needed} instances of {variant['InstanceType']}, and the limit is {most}"
            )
            raise ApiError(
                "ValidationException",
                f"{copies} copies of inference component {name} cannot be placed: {why}; request less, or raise the "
                "variant's MaxInstanceCount",
            )

    def _container(self, specification: Document) -> Document:
        if "ModelName" in specification:
            return container_of(self._plane.get("Model", specification["ModelName"]))
        given = specification.get("Container") or {}
        if "Image" not in given:
            raise refused("Specification needs ModelName, or Container with Image")
        container = {name: value for name, value in given.items() if name != "ArtifactUrl"}
        if "ArtifactUrl" in given:
            container["ModelDataUrl"] = given["ArtifactUrl"]
        ModelData.of(container)
        return container

    def _variant(self, record: Document) -> Document:
        endpoint = self._plane.get("Endpoint", record["EndpointName"])
        return variant_of(self._plane.get("EndpointConfig", endpoint["EndpointConfigName"]), record["VariantName"])

    def _isolated(self, record: Document, specification: Document) -> bool:
        """Return whether its containers have no network, as set by their model or by the endpoint configuration."""
        endpoint = self._plane.get("Endpoint", record["EndpointName"])
        config = self._plane.get("EndpointConfig", endpoint["EndpointConfigName"])
        model = self._plane.get("Model", specification["ModelName"]) if "ModelName" in specification else {}
        return bool(model.get("EnableNetworkIsolation") or config.get("EnableNetworkIsolation"))

    def _copies_of(self, record: Document, specification: Document, count: int) -> VariantFleet:
        reserved = specification["ComputeResourceRequirements"]
        memory = int(reserved.get("MaxMemoryRequiredInMb") or reserved["MinMemoryRequiredInMb"])
        variant = self._variant(record)
        startup = specification.get("StartupParameters") or {}
        spec = replica_spec(
            self._state, self._container(specification), variant["InstanceType"], memory_bytes=memory * 2**20
        )
        return VariantFleet(
            name=record["VariantName"],
            spec=replace(spec, isolated=self._isolated(record, specification)),
            desired=count,
            weight=1.0,
            random=(variant.get("RoutingConfig") or {}).get("RoutingStrategy") == "RANDOM",
            start_timeout_seconds=float(startup.get("ContainerStartupHealthCheckTimeoutInSeconds", _START_SECONDS)),
        )

    async def _deploy(self, record: Document, specification: Document, count: int, plan: Plan | None = None) -> None:
        """Start new copies next to the old ones, then switch to them; a failure leaves the old ones serving."""
        name = record["InferenceComponentName"]
        old = self.fleets.get(name)
        copies = await asyncio.to_thread(self._copies_of, record, specification, count)
        if old is not None and plan is not None:
            copies.desired = plan.first(count)
        fleet = Fleet(f"{LABEL}/{name}", self._state, [copies], self._plane.save)
        await fleet.start()
        try:
            reason = await self._move_over(name, old, fleet, plan, count)
        except Exception:
            await fleet.stop()
            raise
        if reason is not None:
            self._fail(record, reason)
            return
        self.fleets[name] = fleet
        record["Specification"] = specification
        record["RuntimeConfig"] = {"DesiredCopyCount": count}
        self._end(record, "InService")
        if old is not None:
            await old.stop()

    async def _move_over(self, name: str, old: Fleet | None, new: Fleet, plan: Plan | None, count: int) -> str | None:
        """Move the requests from the old copies to the new ones; return the reason if they were moved back."""
        if old is None or plan is None:
            return None
        counts = dict.fromkeys(new.variants, count)
        rollout = Rollout(old, new, plan, config=name, counts=counts, alarms=self._alarms, clock=self._clock)
        self.rollouts[name] = rollout
        try:
            return await rollout.run()
        finally:
            # Nothing awaits between here and the switch to the new copies, so no request can come in between.
            del self.rollouts[name]

    async def _apply_count(self, record: Document, count: int) -> None:
        record["RuntimeConfig"] = {"DesiredCopyCount": count}
        await self.fleets[record["InferenceComponentName"]].resize(record["VariantName"], count)
        self._end(record, "InService")

    async def _remove(self, name: str) -> None:
        fleet = self.fleets.pop(name, None)
        if fleet is not None:
            await fleet.stop()
        self._plane.forget(KIND, name)

    def _begin(self, record: Document, status: str) -> None:
        record.pop("FailureReason", None)
        self._end(record, status)

    def _run(self, record: Document, work: Coroutine[Any, Any, None]) -> None:
        self._plane.run(work, partial(self._fail, record))

    def _fail(self, record: Document, reason: str) -> None:
        """End work on a component with a reason: it is InService if copies serve it, else Failed."""
        record["FailureReason"] = reason
        self._end(record, "InService" if record["InferenceComponentName"] in self.fleets else "Failed")

    def _end(self, record: Document, status: str) -> None:
        record |= {"InferenceComponentStatus": status, "LastModifiedTime": time.time()}
        self._plane.save()


def _copies(record: Document) -> int:
    return int(record["RuntimeConfig"]["DesiredCopyCount"])
