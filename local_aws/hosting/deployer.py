"""Deployment of endpoints: a new fleet starts next to the old one, and requests move over step by step."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from local_aws.hosting import endpoint_configs
from local_aws.hosting.components import Components
from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.models import container_of, replica_spec
from local_aws.hosting.records import RecordStore
from local_aws.hosting.rollout import AlarmStates, Clock, Plan, Rollout

Document = dict[str, Any]
_DEFAULT_START_SECONDS = 300
_CAPTURE = "DataCaptureConfig"


@dataclass(frozen=True, slots=True)
class Retained:
    """Properties that an update keeps, by variant where each variant has its own; what is absent is not kept."""

    counts: dict[str, int] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    capture: Document | None = None


class EndpointDeployer:
    """The fleets that serve endpoints, and the updates in progress.

    alarms: returns the states of the alarms that an update watches. clock: passes the update's waits.
    """

    def __init__(
        self, state: Path, records: RecordStore, components: Components, alarms: AlarmStates, clock: Clock
    ) -> None:
        self._state, self._records, self._components = state, records, components
        self._alarms, self._clock = alarms, clock
        self.fleets: dict[str, Fleet] = {}
        self.rollouts: dict[str, Rollout] = {}

    async def close(self) -> None:
        """Stop every replica."""
        fleets = [fleet.stop() for fleet in self.fleets.values()]
        await asyncio.gather(*fleets, *(rollout.new.stop() for rollout in self.rollouts.values()))

    def pick(self, name: str, variant: str | None) -> VariantFleet:
        """Return a variant of a served endpoint, by weight where none is named; raise KeyError for an unknown one."""
        if name in self.rollouts:
            return self.rollouts[name].pick(variant)
        fleet = self.fleets[name]
        return fleet.pick_variant() if variant is None else fleet.production[variant]

    async def remove(self, name: str) -> None:
        """Stop an endpoint's replicas and delete its record."""
        fleet = self.fleets.pop(name, None)
        if fleet is not None:
            await fleet.stop()
        self._records.forget("Endpoint", name)

    async def deploy(
        self, endpoint: Document, config_name: str, retained: Retained | None = None, plan: Plan | None = None
    ) -> None:
        """Start a new fleet next to the old one and move requests over; a failure leaves the old one serving.

        Raises any exception of the start; the caller turns it into the endpoint's failure.
        retained: properties that replace the configuration's. plan: steps of the update.
        """
        name, retained = endpoint["EndpointName"], retained or Retained()
        old = self.fleets.get(name)
        try:
            config = self._records.get("EndpointConfig", config_name)
            fleet, reason = await self._start(endpoint, config, retained, plan or Plan())
            if reason is None:
                await self._switch(endpoint, config, fleet)
                _set_capture(endpoint, config if retained.capture is None else {_CAPTURE: retained.capture})
                self._settle(endpoint)
            else:
                self.fail(endpoint, reason)
        finally:
            if old is not None and self.fleets.get(name) is not old:
                await old.stop()

    def fail(self, endpoint: Document, reason: str) -> None:
        """End work on an endpoint with a reason: it is InService if instances serve it, else Failed."""
        endpoint["FailureReason"] = reason
        self._settle(endpoint)

    def _settle(self, endpoint: Document) -> None:
        served = endpoint["EndpointName"] in self.fleets
        endpoint |= {"EndpointStatus": "InService" if served else "Failed", "LastModifiedTime": time.time()}
        self._records.save()

    async def _start(
        self, endpoint: Document, config: Document, retained: Retained, plan: Plan
    ) -> tuple[Fleet, str | None]:
        """Start a fleet and move the requests; return it, and why they had to go back if they did."""
        name = endpoint["EndpointName"]
        old = self.fleets.get(name)
        variants = [
            await asyncio.to_thread(
                self._variant,
                variant,
                retained,
                shadow=variant not in config["ProductionVariants"],
            )
            for variant in endpoint_configs.variants(config)
            if "ModelName" in variant
        ]
        wanted = {variant.name: variant.desired for variant in variants}
        if old is not None and old.variants:
            for variant in variants:
                variant.desired = plan.first(variant.desired)
        fleet = Fleet(name, self._state, variants, self._records.save)
        await fleet.start()
        try:
            return fleet, await self._move_over(endpoint, config["EndpointConfigName"], fleet, plan, wanted)
        except Exception:
            await fleet.stop()
            raise

    async def _switch(self, endpoint: Document, config: Document, fleet: Fleet) -> None:
        """Make a started fleet the one that serves an endpoint."""
        name = endpoint["EndpointName"]
        self.fleets[name] = fleet
        before = self._records.find("EndpointConfig", endpoint["EndpointConfigName"]) or config
        endpoint["EndpointConfigName"] = config["EndpointConfigName"]
        if endpoint_configs.instance_types(before) != endpoint_configs.instance_types(config):
            await self._components.move(name)
        endpoint |= self._summaries(fleet, config)

    async def _move_over(
        self, endpoint: Document, config_name: str, new: Fleet, plan: Plan, counts: dict[str, int]
    ) -> str | None:
        """Move the requests from the old fleet to the new one; return the reason where they had to go back."""
        name = endpoint["EndpointName"]
        old = self.fleets.get(name)
        if old is None or not old.variants or set(old.production) != set(new.production):
            return None

        def changed() -> None:
            endpoint["EndpointStatus"] = "RollingBack" if rollout.rolling_back else "Updating"
            self._records.save()

        rollout = Rollout(
            old, new, plan, config=config_name, counts=counts, alarms=self._alarms, clock=self._clock, changed=changed
        )
        self.rollouts[name] = rollout
        try:
            return await rollout.run()
        finally:
            # Nothing awaits from here to the switch to the new fleet, so no request comes in between.
            del self.rollouts[name]

    async def apply_weights(self, endpoint: Document, fleet: Fleet, changes: list[Document]) -> None:
        """Set weights and instance counts of variants; raise ReplicaFailedError for a replica that does not start."""
        try:
            for change in changes:
                variant = fleet.variants[change["VariantName"]]
                variant.weight = float(change.get("DesiredWeight", variant.weight))
                await fleet.resize(variant.name, int(change.get("DesiredInstanceCount", variant.desired)))
        finally:
            # The configuration and its models may have been deleted since the deployment.
            for summary in [*endpoint["ProductionVariants"], *endpoint.get("ShadowProductionVariants", [])]:
                summary |= _counts(fleet.variants[summary["VariantName"]])
        self._settle(endpoint)

    def component_variants(self, endpoint: Document, config: Document) -> list[Document]:
        """Return how DescribeEndpoint shows the variants that hold inference components."""
        return [
            self._component_variant(endpoint["EndpointName"], variant)
            for variant in config["ProductionVariants"]
            if "ModelName" not in variant
        ]

    def _component_variant(self, endpoint: str, variant: Document) -> Document:
        current, desired = self._components.instances(endpoint, variant)
        weight = float(variant.get("InitialVariantWeight", 1))
        return {
            "VariantName": variant["VariantName"],
            "CurrentWeight": weight,
            "DesiredWeight": weight,
            "CurrentInstanceCount": current,
            "DesiredInstanceCount": desired,
            **{name: variant[name] for name in ("ManagedInstanceScaling", "RoutingConfig") if name in variant},
        }

    def retained(self, endpoint: Document, request: Document) -> Retained:
        """Return the properties of a served endpoint that an UpdateEndpoint request keeps."""
        fleet = self.fleets.get(endpoint["EndpointName"])
        if fleet is None or not request.get("RetainAllVariantProperties"):
            return Retained()
        excluded = {each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties") or []}
        variants = fleet.variants.values()
        return Retained(
            {} if "DesiredInstanceCount" in excluded else {variant.name: variant.desired for variant in variants},
            {} if "DesiredWeight" in excluded else {variant.name: variant.weight for variant in variants},
            None if _CAPTURE in excluded else endpoint.get(_CAPTURE),
        )

    def _variant(self, variant: Document, retained: Retained, *, shadow: bool) -> VariantFleet:
        model = self._records.get("Model", variant["ModelName"])
        spec = replica_spec(self._state, container_of(model), variant["InstanceType"])
        name = variant["VariantName"]
        return VariantFleet(
            name=name,
            spec=replace(spec, isolated=bool(model.get("EnableNetworkIsolation"))),
            desired=retained.counts.get(name) or int(variant.get("InitialInstanceCount", 1)),
            weight=retained.weights.get(name, float(variant.get("InitialVariantWeight", 1))),
            random=(variant.get("RoutingConfig") or {}).get("RoutingStrategy") == "RANDOM",
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
        image = container_of(self._records.get("Model", configured["ModelName"]))["Image"]
        return {
            "VariantName": variant.name,
            "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": time.time()}],
            **_counts(variant),
        }


def _set_capture(endpoint: Document, config: Document) -> None:
    endpoint.pop(_CAPTURE, None)
    if _CAPTURE in config:
        endpoint[_CAPTURE] = config[_CAPTURE]


def _counts(variant: VariantFleet) -> Document:
    return {
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.weight,
        "CurrentInstanceCount": len(variant.ready),
        "DesiredInstanceCount": variant.desired,
    }
