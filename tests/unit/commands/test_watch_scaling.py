"""`inference watch-scaling` says what cannot be watched, and whether what it saw was scaling."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from commands.main import app
from commands.watch_scaling import scaled, time_scale
from load_tests.closed_loop import Request, Target, invoke
from load_tests.targets import deployed_workload, scaling_target
from load_tests.watch_scaling import Moment, Policy
from stacks.settings.deployment import Deployment

POLICY = Policy("SageMakerVariantInvocationsPerInstance", 100, 1, 4)


def moments(*instances: int) -> list[Moment]:
    return [Moment(float(second), True, count, count, 0.0, 0, 0) for second, count in enumerate(instances)]


@pytest.mark.parametrize(
    ("instances", "seen"),
    [((1, 2, 4, 4, 1), True), ((1, 2, 3, 1), False), ((1, 4, 4), False), ((1, 1), False)],
)
def test_scaling_is_seen_when_the_most_instances_came_and_went(instances: tuple[int, ...], seen: bool) -> None:
    assert scaled(POLICY, moments(*instances)) is seen


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("nope",), "workload is 'nope': choose from encoder, tabular, saved_model"),
        (("encoder",), "encoder has no scaling"),
        (("tabular", "--endpoint", "nope"), "endpoint is 'nope': choose from small, large"),
        (("tabular", "--endpoint", "small"), "small has no scaling"),
        (("tabular", "--deployment", "nope"), "choose one of: dev, prod, prod-local, published"),
    ],
)
def test_what_cannot_be_watched_is_one_line(arguments: tuple[str, ...], part: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["watch-scaling", *arguments, "--state", str(tmp_path)])
    assert done.exit_code == 1
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_of_an_inference_component_the_copies_are_watched() -> None:
    component = {"cpu_cores": 2, "memory_mib": 2048, "min_instances": 0}
    scaling = {"min_capacity": 0, "max_capacity": 4, "target_invocations_per_copy": 60}
    endpoint = {"server": "openvino", "precision": "fp32", "inference_component": component, "scaling": scaling}
    workloads = {
        "saved_model": {
            "kind": "saved_model",
            "endpoints": {"plain": {"server": "tensorflow_serving"}, "asleep": endpoint},
        }
    }
    settings = Deployment.model_validate({"environment": "dev", "workloads": workloads})
    key, target = scaling_target(deployed_workload(settings, "saved_model"), None)
    assert (key, target) == ("asleep", Target("dev-saved-model-asleep", "AllTraffic", "dev-saved-model-asleep"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("e", "v"), {"EndpointName": "e", "TargetVariant": "v"}),
        (Target("e", "v", "c"), {"EndpointName": "e", "InferenceComponentName": "c"}),
    ],
)
def test_a_request_goes_to_the_variant_or_to_the_component(target: Target, expected: dict[str, str]) -> None:
    sent: dict[str, Any] = {}

    def invoke_endpoint(**members: Any) -> dict[str, Any]:
        sent.update(members)
        return {"Body": io.BytesIO(b"answer")}

    runtime: Any = SimpleNamespace(invoke_endpoint=invoke_endpoint)
    assert invoke(runtime, target, Request(body=b"x", content_type="text/csv")) == b"answer"
    assert sent == {**expected, "Body": b"x", "ContentType": "text/csv", "Accept": "*/*"}


def test_time_is_not_compressed_on_aws() -> None:
    assert time_scale(None) == 1
