"""Inference components in the control plane: what is refused, what fails and goes back, what outlives the process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_aws.hosting import components, fleet
from local_aws.hosting.control import ControlPlane
from local_aws.hosting.errors import ApiError
from local_aws.hosting.images import Image
from local_aws.hosting.replica import ReplicaFailedError, ReplicaSpec

IMAGE = Image("/", "/", ("serve",), {}, "/")
Step = Callable[[ControlPlane], Awaitable[None]]


@dataclass
class Replica:
    """Starts at once, unless its model's name says that it cannot."""

    state: Path
    spec: ReplicaSpec
    label: str
    id: str = "0"
    pid: int = 1
    started: float = 0.0
    ready: bool = False
    in_flight: int = 0
    running: bool = True
    models: Any = None

    async def start(self, _timeout_seconds: float) -> None:
        if self.spec.model_dir == "broken":
            raise ReplicaFailedError("the container ended with exit code 3")
        self.ready = True

    async def stop(self) -> None:
        self.ready = False

    def last_lines(self, _count: int = 3) -> str:
        return ""


@pytest.fixture(autouse=True)
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def spec(_state: Path, container: Any, instance_type: str, memory_bytes: int | None = None) -> ReplicaSpec:
        name = container["ModelDataUrl"].removeprefix("s3://b/")
        return ReplicaSpec(IMAGE, name, None, {}, instance_type, memory_bytes)

    monkeypatch.setattr(components, "replica_spec", spec)
    monkeypatch.setattr(fleet, "Replica", Replica)


def specification(model: str = "good", **reserved: Any) -> dict[str, Any]:
    wanted = {"MinMemoryRequiredInMb": 1024, "NumberOfCpuCoresRequired": 1.0, **reserved}
    return {"ModelName": model, "ComputeResourceRequirements": wanted}


def request(copies: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "InferenceComponentName": "c",
        "EndpointName": "e",
        "VariantName": "v",
        "Specification": specification(),
        "RuntimeConfig": {"CopyCount": copies},
        **changes,
    }


def resize(copies: int) -> dict[str, Any]:
    return {"InferenceComponentName": "c", "DesiredRuntimeConfig": {"CopyCount": copies}}


def describe(control: ControlPlane) -> dict[str, Any]:
    return control.handle("DescribeInferenceComponent", {"InferenceComponentName": "c"})


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def in_service(control: ControlPlane) -> None:
    await until(lambda: describe(control)["InferenceComponentStatus"] == "InService")


async def endpoint(control: ControlPlane) -> None:
    """An endpoint of at most two ml.c6i.large, and a model of each kind."""
    for name in ("good", "broken", "multi"):
        mode = {"Mode": "MultiModel"} if name == "multi" else {}
        container = {"Image": "i", "ModelDataUrl": f"s3://b/{name}", **mode}
        control.handle("CreateModel", {"ModelName": name, "PrimaryContainer": container})
    variant = {
        "VariantName": "v",
        "InstanceType": "ml.c6i.large",
        "InitialInstanceCount": 1,
        "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2},
    }
    control.handle(
        "CreateEndpointConfig",
        {"EndpointConfigName": "g", "ExecutionRoleArn": "r", "ProductionVariants": [variant]},
    )
    control.handle("CreateEndpoint", {"EndpointName": "e", "EndpointConfigName": "g"})
    await until(lambda: control.endpoint("e")["EndpointStatus"] == "InService")


def run(tmp_path: Path, steps: Step, alarm: str = "OK") -> None:
    """Runs the steps on a control plane with the endpoint, where every alarm is in that state."""

    async def states(names: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(names, alarm)

    async def main() -> None:
        control = ControlPlane(tmp_path, states)
        try:
            await endpoint(control)
            await steps(control)
        finally:
            await control.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("operation", "given", "part"),
    [
        ("CreateInferenceComponent", request(EndpointName="x"), "Could not find endpoint"),
        ("CreateInferenceComponent", request(VariantName="x"), "Could not find variant x; the endpoint has: v"),
        ("CreateInferenceComponent", request(Specification=specification("x")), "Could not find model"),
        ("CreateInferenceComponent", request(Specification=specification("multi")), "MultiModel"),
        ("CreateInferenceComponent", request(Specification={"ModelName": "good"}), "MinMemoryRequiredInMb is missing"),
        ("CreateInferenceComponent", request(RuntimeConfig={}), "RuntimeConfig.CopyCount is missing"),
        (
            "CreateInferenceComponent",
            request(
                Specification={
                    "Container": {"ArtifactUrl": "s3://b/k"},
                    "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128},
                }
            ),
            "Container with Image",
        ),
        ("CreateInferenceComponent", request(copies=5), "they need 3 instances of ml.c6i.large, and the limit is 2"),
        (
            "CreateInferenceComponent",
            request(Specification=specification(MinMemoryRequiredInMb=9000)),
            "a copy does not fit on ml.c6i.large",
        ),
        ("DescribeInferenceComponent", {"InferenceComponentName": "c"}, "Could not find inference component"),
        ("UpdateInferenceComponentRuntimeConfig", resize(1), "Could not find inference component"),
        ("DeleteInferenceComponent", {"InferenceComponentName": "c"}, "Could not find inference component"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    tmp_path: Path, operation: str, given: dict[str, Any], part: str
) -> None:
    async def steps(control: ControlPlane) -> None:
        with pytest.raises(ApiError) as raised:
            control.handle(operation, given)
        assert part in str(raised.value)
        assert control.handle("ListInferenceComponents", {})["InferenceComponents"] == []

    run(tmp_path, steps)


def test_nothing_is_changed_while_something_is(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        control.handle("CreateInferenceComponent", request())
        for operation, given in (
            ("UpdateInferenceComponentRuntimeConfig", resize(2)),
            ("UpdateInferenceComponent", {"InferenceComponentName": "c", "RuntimeConfig": {"CopyCount": 2}}),
            ("DeleteInferenceComponent", {"InferenceComponentName": "c"}),
        ):
            with pytest.raises(ApiError, match="that is Creating"):
                control.handle(operation, given)
        with pytest.raises(ApiError, match="Cannot create already existing inference component"):
            control.handle("CreateInferenceComponent", request())
        await in_service(control)

    run(tmp_path, steps)


def test_a_component_may_begin_without_a_copy(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        control.handle("CreateInferenceComponent", request(copies=0))
        await in_service(control)
        assert describe(control)["RuntimeConfig"] == {"DesiredCopyCount": 0, "CurrentCopyCount": 0}
        control.handle("UpdateInferenceComponentRuntimeConfig", resize(2))
        await in_service(control)
        assert describe(control)["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}

    run(tmp_path, steps)


def test_a_copy_may_use_the_memory_that_it_reserves_or_its_maximum(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        given: tuple[dict[str, Any], ...] = ({}, {"MaxMemoryRequiredInMb": 2048})
        for maximum in given:
            control.handle("CreateInferenceComponent", request(Specification=specification(**maximum)))
            await in_service(control)
            copies = control.components.copies("c")
            assert copies is not None
            assert copies.spec.memory_limit == (2048 if maximum else 1024) * 2**20
            control.handle("DeleteInferenceComponent", {"InferenceComponentName": "c"})
            await until(lambda: not control.components.on_endpoint("e"))

    run(tmp_path, steps)


def test_a_first_deployment_that_fails_says_why_and_an_update_mends_it(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        control.handle("CreateInferenceComponent", request(Specification=specification("broken")))
        await until(lambda: describe(control)["InferenceComponentStatus"] == "Failed")
        assert describe(control)["FailureReason"] == "the container ended with exit code 3"
        (row,) = control.status()[0]["variants"]
        assert (row["name"], row["desired"], row["replicas"]) == ("c", 1, [])
        assert row["note"] == "the container ended with exit code 3"
        with pytest.raises(ApiError, match="Cannot update failed inference component"):
            control.handle("UpdateInferenceComponentRuntimeConfig", resize(2))
        control.handle(
            "UpdateInferenceComponent", {"InferenceComponentName": "c", "Specification": specification("good")}
        )
        await in_service(control)
        assert "FailureReason" not in describe(control)

    run(tmp_path, steps)


def test_any_exception_in_a_deployment_ends_as_a_failure_and_the_component_can_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise KeyError("ArtifactUrl")

    async def steps(control: ControlPlane) -> None:
        monkeypatch.setattr(components, "replica_spec", fail)
        control.handle("CreateInferenceComponent", request())
        await until(lambda: describe(control)["InferenceComponentStatus"] == "Failed")
        assert "KeyError" in describe(control)["FailureReason"]
        control.handle("DeleteInferenceComponent", {"InferenceComponentName": "c"})
        await until(lambda: not control.components.on_endpoint("e"))

    run(tmp_path, steps)


def test_any_exception_in_a_resize_leaves_the_component_in_service_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: Any) -> None:
        raise ZeroDivisionError

    async def steps(control: ControlPlane) -> None:
        control.handle("CreateInferenceComponent", request())
        await in_service(control)
        monkeypatch.setattr(fleet.Fleet, "resize", fail)
        control.handle("UpdateInferenceComponentRuntimeConfig", resize(2))
        await in_service(control)
        assert "ZeroDivisionError" in describe(control)["FailureReason"]

    run(tmp_path, steps)


def test_an_update_that_fails_leaves_the_old_copies_serving(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        control.handle("CreateInferenceComponent", request(copies=2))
        await in_service(control)
        control.handle(
            "UpdateInferenceComponent", {"InferenceComponentName": "c", "Specification": specification("broken")}
        )
        await in_service(control)
        found = describe(control)
        assert found["FailureReason"] == "the container ended with exit code 3"
        assert found["Specification"]["ModelName"] == "good"
        assert found["RuntimeConfig"]["CurrentCopyCount"] == 2

    run(tmp_path, steps)


@pytest.mark.parametrize(("alarm", "served", "told"), [("OK", "other", ""), ("ALARM", "good", "went to ALARM: slow")])
def test_an_update_goes_out_in_batches_of_copies_and_an_alarm_takes_it_back(
    tmp_path: Path, alarm: str, served: str, told: str
) -> None:
    async def steps(control: ControlPlane) -> None:
        batch = {"MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1}, "WaitIntervalInSeconds": 0}
        config = {
            "RollingUpdatePolicy": batch,
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "slow"}]},
        }
        container = {"Image": "i", "ModelDataUrl": "s3://b/other"}
        control.handle("CreateModel", {"ModelName": "other", "PrimaryContainer": container})
        control.handle("CreateInferenceComponent", request(copies=2, DeploymentConfig=config))
        await in_service(control)
        control.handle(
            "UpdateInferenceComponent", {"InferenceComponentName": "c", "Specification": specification("other")}
        )

        def updated() -> bool:
            if rollout := control.components.rollouts.get("c"):
                assert rollout.plan.shares == (0.5, 1.0)
            picked = control.components.pick("c")
            assert picked is not None and picked.ready, "somebody can take every request"
            return bool(describe(control)["InferenceComponentStatus"] == "InService")

        await until(updated)
        found = describe(control)
        assert found["Specification"]["ModelName"] == served
        assert told in found.get("FailureReason", "")
        assert found["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
        assert found["LastDeploymentConfig"] == config

    run(tmp_path, steps, alarm)


def test_a_batch_of_more_than_half_of_the_copies_is_refused(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        batch = {"MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 2}, "WaitIntervalInSeconds": 0}
        control.handle("CreateInferenceComponent", request(copies=3, DeploymentConfig={"RollingUpdatePolicy": batch}))
        await in_service(control)
        with pytest.raises(ApiError, match="50% of the copy count"):
            control.handle(
                "UpdateInferenceComponent",
                {"InferenceComponentName": "c", "Specification": specification("good", NumberOfCpuCoresRequired=0.5)},
            )
        assert describe(control)["InferenceComponentStatus"] == "InService"

    run(tmp_path, steps)


def test_components_and_their_counts_outlive_the_process(tmp_path: Path) -> None:
    async def steps(control: ControlPlane) -> None:
        control.handle("CreateInferenceComponent", request())
        await in_service(control)
        control.handle("UpdateInferenceComponentRuntimeConfig", resize(3))
        await in_service(control)
        again = ControlPlane(tmp_path)
        again.restore()
        await in_service(again)
        assert describe(again)["RuntimeConfig"] == {"DesiredCopyCount": 3, "CurrentCopyCount": 3}
        await again.close()

    run(tmp_path, steps)
