"""A build may take longer than the hour that CloudFormation gives the custom resource that waits for it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infrastructure.conftest import Assembly

Synthesize = Callable[..., Assembly]
WORKLOAD = {"kind": "tabular", "endpoints": {"main": {"instance_type": "ml.c5.large"}}}


def synthesized(synthesize: Synthesize, folder: Path, **model_build: Any) -> Assembly:
    path = folder / "builds.yaml"
    path.write_text(yaml.safe_dump({"environment": "waits", "model_build": model_build, "workloads": {"t": WORKLOAD}}))
    return synthesize(str(path), json.dumps(model_build))


@pytest.mark.parametrize(
    ("timeout", "queue", "resources"), [(30, 20, 1), (110, 50, 3), (480, 480, math.ceil(960 / 55))]
)
def test_as_many_resources_wait_as_the_build_and_its_queue_have_hours(
    synthesize: Synthesize, tmp_path: Path, timeout: int, queue: int, resources: int
) -> None:
    assembly = synthesized(synthesize, tmp_path, timeout_minutes=timeout, queue_minutes=queue)
    waits = list(assembly.resources("Custom::BuildWait").values())
    assert 1 + len(waits) == resources
    (first,) = assembly.resources("Custom::BuiltArtifact").values()
    assert [each["Properties"]["WaitsOn"] for each in (first, *waits)] == ["true"] * (resources - 1) + ["false"]
    (project,) = assembly.resources("AWS::CodeBuild::Project").values()
    asked = project["Properties"]
    assert (asked["TimeoutInMinutes"], asked["QueuedTimeoutInMinutes"]) == (timeout, queue)


def test_models_come_from_what_the_last_resource_returns(synthesize: Synthesize, tmp_path: Path) -> None:
    assembly = synthesized(synthesize, tmp_path, timeout_minutes=110, queue_minutes=50)
    names = [name.partition("/")[2] for name in assembly.resources("Custom::BuildWait")]
    (model,) = assembly.resources("AWS::SageMaker::Model").values()
    assert names[-1] in json.dumps(model)
    assert names[0] not in json.dumps(model)
