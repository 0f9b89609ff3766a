"""Updates of an endpoint: the steps that a deployment configuration asks for, and what takes them back."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local_aws.hosting import deployer, fleet
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.images import Image
from local_aws.hosting.replica import ReplicaFailedError, ReplicaSpec
from local_aws.hosting.rollout import Plan

IMAGE = Image("/", "/", ("serve",), {}, "/")
INSTANCES = 4
QUIET = {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "latency"}, {"AlarmName": "errors"}]}}
started: list["Replica"] = []


@dataclass
class Replica:
    """Starts at once, unless its model cannot."""

    state: Path
    spec: ReplicaSpec
    label: str
    id: str = "0"
    pid: int = 1
    started: float = 0.0
    ready: bool = False
    in_flight: int = 0
    running: bool = True
    lost: bool = False
    models: Any = None

    async def start(self, _timeout_seconds: float) -> None:
        started.append(self)
        if self.spec.model_dir == "broken":
            raise ReplicaFailedError("the container ended with exit code 3")
        self.ready = True

    async def stop(self) -> None:
        self.ready, self.running = False, False

    def kill_over_limit(self) -> None:
        pass

    def last_lines(self, _count: int = 3) -> str:
        return ""


@dataclass
class Clock:
    """Passes waits at once, and looks at the endpoint in each."""

    waited: float = 0.0
    poll_seconds: float = 30.0
    look: Callable[[], None] = lambda: None
    seen: list[Any] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.look()
        self.waited += seconds
        await asyncio.sleep(0)


@dataclass
class Watched:
    """Alarms that are quiet until the clock has passed a number of seconds."""

    clock: Clock
    tripped_after: float = float("inf")
    names: Sequence[str] = ("latency", "errors")
    silent: bool = False

    async def states(self, _names: Sequence[str]) -> dict[str, str] | None:
        if self.silent:
            return None
        alarming = self.clock.waited >= self.tripped_after
        return {name: "ALARM" if alarming and name == "errors" else "OK" for name in self.names}


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def spec(_state: Path, container: Any, instance_type: str, memory_bytes: int | None = None) -> ReplicaSpec:
        name = container["ModelDataUrl"].removeprefix("s3://b/")
        return ReplicaSpec(IMAGE, name, None, {}, instance_type, memory_bytes)

    monkeypatch.setattr(deployer, "replica_spec", spec)
    monkeypatch.setattr(fleet, "Replica", Replica)
    started.clear()
    yield


def size(value: int, kind: str = "INSTANCE_COUNT") -> dict[str, Any]:
    return {"Type": kind, "Value": value}


def percent(value: int) -> dict[str, Any]:
    return size(value, "CAPACITY_PERCENT")


def blue_green(kind: str = "ALL_AT_ONCE", wait: int = 120, **more: Any) -> dict[str, Any]:
    keep = {name: more.pop(name) for name in list(more) if name.startswith(("Termination", "Maximum"))}
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **more}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **keep}, **QUIET}


def canary(part: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return blue_green("CANARY", CanarySize=part or percent(10), **more)


def linear(part: dict[str, Any], **more: Any) -> dict[str, Any]:
    return blue_green("LINEAR", LinearStepSize=part, **more)


def rolling(part: dict[str, Any], wait: int = 120, **more: Any) -> dict[str, Any]:
    return {"RollingUpdatePolicy": {"MaximumBatchSize": part, "WaitIntervalInSeconds": wait, **more}, **QUIET}


@pytest.mark.parametrize(
    ("config", "instances", "shares"),
    [
        (None, [1], (1.0,)),
        (blue_green(), [3], (1.0,)),
        (canary(percent(25)), [4], (0.25, 1.0)),
        (canary(size(1)), [4], (0.25, 1.0)),
        (canary(size(1)), [4, 2], (0.5, 1.0)),
        (linear(percent(40)), [5], (0.4, 0.8, 1.0)),
        (linear(size(1)), [3], (0.333333, 0.666667, 1.0)),
        (rolling(size(2)), [5], (0.4, 0.8, 1.0)),
        (rolling(percent(50)), [4], (0.5, 1.0)),
        (rolling(percent(10)), [4], (0.25, 0.5, 0.75, 1.0)),
    ],
)
def test_the_requests_move_in_the_steps_that_are_asked_for(
    config: dict[str, Any] | None, instances: list[int], shares: tuple[float, ...]
) -> None:
    assert Plan.parse(config, instances).shares == shares


@pytest.mark.parametrize(
    ("config", "instances", "part"),
    [
        (canary(percent(51)), [10], "CanarySize is 51 (CAPACITY_PERCENT) for a count of 10: it must be at most 50%"),
        (canary(size(2)), [3], "CanarySize is 2 (INSTANCE_COUNT) for a count of 3"),
        (canary(size(1)), [1], "for a count of 1:"),
        (linear(percent(9)), [10], "LinearStepSize is 9 (CAPACITY_PERCENT) for a count of 10: it must be 10% to 50%"),
        (linear(size(1)), [11], "10% to 50%"),
        (rolling(percent(4)), [10], "MaximumBatchSize is 4 (CAPACITY_PERCENT) for a count of 10: it must be 5% to 50%"),
        (rolling(size(1)), [2, 2], "several variants"),
        ({**canary(), **rolling(size(1))}, [2], "use only one of them"),
        (canary(wait=400, MaximumExecutionTimeoutInSeconds=600), [2], "the waits alone take 800 s"),
        ({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": str(i)} for i in range(11)]}}, [1], "at most ten"),
    ],
)
def test_what_sagemaker_refuses_is_refused(config: dict[str, Any], instances: list[int], part: str) -> None:
    with pytest.raises(ApiError) as raised:
        Plan.parse(config, instances)
    assert part in str(raised.value)


@dataclass
class Update:
    """An endpoint of one variant that has been updated once, and what its requests met in each wait."""

    control: ControlPlane
    clock: Clock
    described: dict[str, Any]
    seen: list[tuple[float, dict[str, int]]]

    @property
    def shares(self) -> list[float]:
        return [share for share, _ in self.seen]


def update(
    tmp_path: Path,
    config: dict[str, Any] | None,
    *,
    model: str = "second",
    variant: str = "v",
    tripped_after: float = float("inf"),
    crash: bool = False,
    watched: dict[str, Any] | None = None,
    request: dict[str, Any] | None = None,
) -> Update:
    """Creates an endpoint of the model `first` and updates it; looks at it in every wait."""

    async def main() -> Update:
        clock = Clock()
        alarms = Watched(clock, tripped_after, **(watched or {}))
        control = ControlPlane(tmp_path, alarms.states, clock)
        for name in ("first", model):
            container = {"Image": "i", "ModelDataUrl": f"s3://b/{name}"}
            control.handle("CreateModel", {"ModelName": name, "PrimaryContainer": container})
            production = {
                "VariantName": "v" if name == "first" else variant,
                "ModelName": name,
                "InstanceType": "ml.c6i.large",
                "InitialInstanceCount": INSTANCES,
            }
            control.handle("CreateEndpointConfig", {"EndpointConfigName": name, "ProductionVariants": [production]})
        control.handle("CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "first"})
        await until(lambda: describe(control)["EndpointStatus"] == "InService")
        seen: list[tuple[float, dict[str, int]]] = []

        def look() -> None:
            if "e" not in control.rollouts:
                return
            rollout = control.rollouts["e"]
            if crash:
                for replica in rollout.new.variants["v"].replicas:
                    replica.ready = False
            ready = {
                model: len(fleet.variants["v"].ready)
                for model, fleet in (("first", rollout.old), (model_of(rollout.new), rollout.new))
            }
            picked = Counter(control.pick("e", None).spec.model_dir for _ in range(50))
            assert None not in picked, "every request has somebody to take it"
            assert all(ready[str(name)] for name in picked), "a request goes where somebody is ready"
            seen.append((rollout.share, ready))
            assert describe(control)["EndpointStatus"] == "Updating"
            pending = describe(control)["PendingDeploymentSummary"]
            assert pending["EndpointConfigName"] == model
            assert pending["ProductionVariants"][0]["VariantStatus"][0]["Status"] in ("Baking", "ActivatingTraffic")

        clock.look = look
        asked = {"EndpointName": "e", "EndpointConfigName": model, **(request or {})}
        if config is not None:
            asked["DeploymentConfig"] = config
        try:
            control.handle("UpdateEndpoint", asked)
            await until(lambda: describe(control)["EndpointStatus"] == "InService")
            await until(lambda: len([r for r in started if r.running and r.ready]) == INSTANCES)
            return Update(control, clock, describe(control), seen)
        finally:
            await control.close()

    return asyncio.run(main())


def model_of(of: fleet.Fleet) -> str:
    return str(of.variants["v"].spec.model_dir)


def describe(control: ControlPlane) -> dict[str, Any]:
    return control.handle("DescribeEndpoint", {"EndpointName": "e"})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


def test_without_a_deployment_configuration_everything_moves_at_once_and_nothing_is_waited_for(tmp_path: Path) -> None:
    done = update(tmp_path, None)
    assert done.described["EndpointConfigName"] == "second"
    assert done.clock.waited == 0
    assert "FailureReason" not in done.described
    assert "PendingDeploymentSummary" not in done.described


def test_all_at_once_bakes_with_every_request_on_the_new_instances_and_the_old_ones_kept(tmp_path: Path) -> None:
    done = update(tmp_path, blue_green(wait=120, TerminationWaitInSeconds=60))
    assert set(done.shares) == {1.0}
    assert done.clock.waited == 180
    assert all(ready == {"first": 4, "second": 4} for _, ready in done.seen)


def test_a_canary_takes_its_share_bakes_takes_the_rest_and_bakes_again(tmp_path: Path) -> None:
    done = update(tmp_path, canary(size(1), wait=60))
    assert done.shares == [0.25, 0.25, 1.0, 1.0, 1.0]
    assert done.described["EndpointConfigName"] == "second"
    assert done.described["LastDeploymentConfig"] == canary(size(1), wait=60)


def test_linear_steps_are_of_one_size_and_each_bakes(tmp_path: Path) -> None:
    done = update(tmp_path, linear(percent(50), wait=30))
    assert done.shares == [0.5, 1.0, 1.0]


def test_a_rolling_update_never_has_more_than_one_batch_of_instances_too_many(tmp_path: Path) -> None:
    done = update(tmp_path, rolling(size(1), wait=30))
    assert [ready for _, ready in done.seen[:4]] == [
        {"first": 4, "second": 1},
        {"first": 3, "second": 2},
        {"first": 2, "second": 3},
        {"first": 1, "second": 4},
    ]
    assert done.described["ProductionVariants"][0]["DesiredInstanceCount"] == 4


@pytest.mark.parametrize("config", [canary(), linear(percent(25)), rolling(size(1)), blue_green()])
@pytest.mark.parametrize("tripped_after", [0.0, 60.0])
def test_an_alarm_takes_everything_back_to_the_old_instances(
    tmp_path: Path, config: dict[str, Any], tripped_after: float
) -> None:
    done = update(tmp_path, config, tripped_after=tripped_after)
    assert done.described["EndpointStatus"] == "InService"
    assert done.described["EndpointConfigName"] == "first"
    assert "went to ALARM: errors." in done.described["FailureReason"]
    assert done.clock.waited == tripped_after
    assert not [replica for replica in started if replica.spec.model_dir == "second" and replica.ready]


def test_a_rolling_update_that_goes_back_late_starts_the_old_instances_again(tmp_path: Path) -> None:
    done = update(tmp_path, rolling(size(1), wait=60), tripped_after=150)
    assert done.seen[-1][1] == {"first": 2, "second": 3}
    assert done.described["EndpointConfigName"] == "first"
    assert len([replica for replica in started if replica.spec.model_dir == "first"]) == 6


def test_the_reason_says_how_far_the_update_had_come(tmp_path: Path) -> None:
    reason = update(tmp_path, canary(percent(10)), tripped_after=0).described["FailureReason"]
    assert "rolled back with 10% of the requests on the new instances" in reason


def test_an_alarm_that_does_not_exist_protects_nobody_and_takes_the_update_back(tmp_path: Path) -> None:
    done = update(tmp_path, canary(), watched={"names": ("latency",)})
    assert "there is no alarm errors" in done.described["FailureReason"]


def test_alarms_that_cannot_be_read_for_a_while_take_nothing_back(tmp_path: Path) -> None:
    assert update(tmp_path, canary(), watched={"silent": True}).described["EndpointConfigName"] == "second"


def test_waits_longer_than_the_timeout_take_the_update_back(tmp_path: Path) -> None:
    done = update(tmp_path, rolling(size(1), wait=300, MaximumExecutionTimeoutInSeconds=600))
    assert "more than 600 seconds" in done.described["FailureReason"]
    assert done.described["EndpointConfigName"] == "first"


def test_new_instances_that_do_not_start_get_no_request(tmp_path: Path) -> None:
    done = update(tmp_path, canary(), model="broken")
    assert done.seen == []
    assert "exit code 3" in done.described["FailureReason"]
    assert done.described["EndpointConfigName"] == "first"


def test_requests_of_new_instances_that_have_died_go_to_the_old_ones(tmp_path: Path) -> None:
    done = update(tmp_path, canary(percent(50)), crash=True, tripped_after=60)
    assert done.described["EndpointConfigName"] == "first"


def test_an_update_with_guardrails_keeps_the_variants_names(tmp_path: Path) -> None:
    with pytest.raises(ApiError) as raised:
        update(tmp_path, canary(), variant="w")
    assert "same variant names" in str(raised.value)


def test_the_last_deployment_configuration_can_be_used_again(tmp_path: Path) -> None:
    done = update(tmp_path, None, request={"RetainDeploymentConfig": True})
    assert done.clock.waited == 0, "there was none"
