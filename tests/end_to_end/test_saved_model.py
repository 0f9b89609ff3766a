"""saved_model through the local account: the fakes of TensorFlow Serving and Neo, and OpenVINO, in this order."""

import csv
import io
import json
import os
import signal
import struct
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import yaml
from botocore.exceptions import ClientError

from load_tests.closed_loop import Target, invoke
from load_tests.deployed import read_object, stack_outputs
from load_tests.payloads import saved_model
from local_aws.account import CACHE_VARIABLE, ROOT, STATE_VARIABLE, LocalAccount
from sizing.autoscaling import Bounds, TargetTracking
from sizing.service_times import ServiceTimes
from sizing.simulation.endpoint import Endpoint, Tracking
from sizing.simulation.events import simulate_events
from sizing.simulation.observed import (
    milestones_in,
    milestones_of,
    provisioning_seconds,
    read_moments,
    traffic_of,
)
from stacks.settings.deployment import Deployment
from stacks.settings.saved_model import SavedModelEndpoint
from tests.local_account import (
    INFERENCE,
    assert_every_metric_on_the_dashboards_was_measured,
    assert_nothing_is_deployed,
    bring_up,
    destroy,
    endpoint_status,
    inference,
    runtime,
    wait_until,
)
from tests.processors import needs_int8

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900), needs_int8]
# A minute of the alarms' time passes in a second, so that scaling can be watched.
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
TENSORFLOW, INT8, SCALED, NEO = (
    Target(f"e2e-saved-model-{key}", "AllTraffic") for key in ("tensorflow", "int8", "scaled", "neo")
)
TUNING = "e2e-saved-model-tensorflow-tune"


def deployment_file(folder: Path) -> Path:
    path = folder / "e2e.yaml"
    scaling = {
        "min_capacity": 1,
        "max_capacity": 3,
        "target_invocations_per_instance": 10,
        "scale_in_cooldown_seconds": 60,
        "scale_out_cooldown_seconds": 30,
    }
    unet = {
        "recipe": {
            "source": {"kind": "generated", "images": 60},
            "base_width": 4,
            "depth": 2,
            "epochs": 6,
            "precisions": ["int8"],
            "png_signature": True,
            "gate": {"min_iou": 0.2},
        },
        "endpoints": {
            "tensorflow": {"server": "tensorflow_serving", "tensorflow_serving": {"inter_op_parallelism": 1}},
            "neo": {
                "server": "neo",
                "neo": {"framework_version": "2.9", "target_device": "ml_c5"},
                "instance_type": "ml.c5.2xlarge",
            },
            "int8": {"server": "openvino", "precision": "int8"},
            "scaled": {"server": "openvino", "precision": "int8", "scaling": scaling},
        },
    }
    path.write_text(
        yaml.safe_dump({"environment": "e2e", "workloads": {"saved_model": {"kind": "saved_model", **unet}}})
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def deployed(account: LocalAccount, folder: Path) -> Iterator[None]:  # noqa: ARG001 - needs a running account
    bring_up(deployment_file(folder))
    yield


@pytest.fixture(scope="module")
def artifacts(deployed: None, folder: Path) -> str:
    """The `s3://` URL that the build's files are under."""
    del deployed
    return stack_outputs(Deployment.load(folder / "e2e.yaml"), "saved_model")["Artifacts"]


@pytest.fixture(scope="module")
def samples(artifacts: str) -> list[saved_model.Sample]:
    bucket, _, prefix = artifacts.removeprefix("s3://").partition("/")
    archive = boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}samples.zip")["Body"].read()
    return saved_model.read_samples(archive)


def masks(target: Target, samples: list[saved_model.Sample], form: saved_model.Form) -> list[Any]:
    answers = [invoke(runtime(), target, request) for request in saved_model.requests(samples, form)]
    return [saved_model.answered_mask(answer, form) for answer in answers]


def pixels_alike(one: list[Any], other: list[Any]) -> float:
    return float(np.mean([np.mean(a == b) for a, b in zip(one, other, strict=True)]))


def test_a_png_goes_in_and_its_mask_comes_out_as_png_from_both_servers(samples: list[saved_model.Sample]) -> None:
    by_tensorflow, by_int8 = (masks(target, samples, "png") for target in (TENSORFLOW, INT8))
    assert pixels_alike(by_tensorflow, by_int8) > 0.98
    truth = [sample.mask for sample in samples]
    assert np.mean([saved_model.iou(*pair) for pair in zip(by_int8, truth, strict=True)]) > 0.2


@pytest.mark.parametrize(
    ("target", "forms"),
    [(INT8, ("png", "npy", "json")), (TENSORFLOW, ("png", "json"))],
    ids=["int8", "tensorflow"],
)
def test_every_form_of_an_image_gives_the_same_mask(
    target: Target, forms: tuple[saved_model.Form, ...], samples: list[saved_model.Sample]
) -> None:
    first, *others = (masks(target, samples[:4], form) for form in forms)
    for other in others:
        # JSON carries four digits of a pixel.
        assert pixels_alike(first, other) > 0.999


def test_what_neo_made_here_says_that_it_is_a_fake_and_answers_as_the_original(
    folder: Path, samples: list[saved_model.Sample]
) -> None:
    assert pixels_alike(masks(NEO, samples[:4], "json"), masks(TENSORFLOW, samples[:4], "json")) > 0.995
    outputs = stack_outputs(Deployment.load(folder / "e2e.yaml"), "saved_model")
    told = json.dumps({name: value for name, value in outputs.items() if name.startswith("Neo")})
    assert "fake of SageMaker Neo" in told
    jobs = boto3.client("sagemaker").list_compilation_jobs()["CompilationJobSummaries"]
    assert [job["CompilationJobStatus"] for job in jobs] == ["COMPLETED"]
    assert {status["endpoint"] for status in endpoint_status()} == {
        target.endpoint for target in (TENSORFLOW, INT8, SCALED, NEO)
    }, "the endpoint that checked the compiled model is gone"


def test_the_status_calls_every_fake_by_its_name(state: Path) -> None:
    done = inference(state, "local", "status")
    assert done.returncode == 0, done.stdout
    notes = {
        status["endpoint"]: status["variants"][0]["note"]
        for status in endpoint_status()
        if status["variants"][0]["note"]
    }
    assert set(notes) == {TENSORFLOW.endpoint, NEO.endpoint}
    assert all("a fake of" in note for note in notes.values())


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def huge_png() -> bytes:
    """A valid PNG of 10,000 x 10,000 black pixels, small as a file."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = zlib.compress(bytes(10_000 * 10_001), 9)
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


IMAGE = np.zeros((224, 224, 3), np.float32)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "part"),
    [
        ("application/x-npy", npy(IMAGE[0]), 400, "shape (224, 3)"),
        ("application/x-npy", npy(IMAGE[:100]), 400, "shape (100, 224, 3)"),
        ("application/x-npy", npy(IMAGE.astype("complex64")), 400, "dtype '<c8'"),
        ("application/x-npy", npy(IMAGE + np.nan), 400, "nan"),
        ("application/x-npy", npy(IMAGE[np.newaxis][:0]), 400, "no image"),
        ("application/json", b'{"instances": []}', 400, "no image"),
        ("application/json", b'{"instances": [[1, 2], [3]]}', 400, "instances"),
        ("image/png", None, 400, "PNG"),
        ("image/png", huge_png(), 400, "10000 x 10000"),
        ("text/csv", b"1,2", 415, "text/csv"),
    ],
    ids=["rank", "size", "dtype", "NaN", "empty", "empty JSON", "ragged", "truncated", "100 megapixels", "type"],
)
def test_a_clients_mistake_is_a_clear_error_and_the_server_goes_on(
    content_type: str, body: bytes | None, status: int, part: str, samples: list[saved_model.Sample]
) -> None:
    sent = samples[0].png[: len(samples[0].png) // 2] if body is None else body
    with pytest.raises(ClientError) as raised:
        runtime().invoke_endpoint(EndpointName=INT8.endpoint, ContentType=content_type, Body=sent)
    response: Any = raised.value.response
    assert (response["Error"]["Code"], response["OriginalStatusCode"]) == ("ModelError", status)
    assert part.lower() in response["OriginalMessage"].lower()
    assert "Traceback" not in response["OriginalMessage"]
    (mask,) = masks(INT8, samples[:1], "png")
    assert mask.shape == (224, 224)


def test_the_tuner_finds_settings_that_a_deployment_takes(state: Path, folder: Path, tmp_path: Path) -> None:
    done = inference(
        state, "tune", "saved_model", "--deployment", str(folder / "e2e.yaml"), "--seconds", "0.5",
        "--open-seconds", "1",
        "--candidate", "{}", "--candidate", '{"intra_op_parallelism": 1, "instance_count": 2}',
        "--output", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "fake" in done.stdout
    written = tmp_path / TENSORFLOW.endpoint
    best = yaml.safe_load((written / "best.yaml").read_text())["workloads"]["saved_model"]["endpoints"]["tensorflow"]
    assert SavedModelEndpoint.model_validate(best).server == "tensorflow_serving"
    with (written / "trials.csv").open() as file:
        tried = {row["settings"] for row in csv.DictReader(file)}
    assert tried == {"defaults", "intra-op 1, processes 2"}
    assert (written / "tuning.png").read_bytes().startswith(b"\x89PNG")
    assert_no_tuning_endpoint()


def assert_no_tuning_endpoint() -> None:
    sagemaker: Any = boto3.client("sagemaker")
    assert TUNING not in {status["endpoint"] for status in endpoint_status()}
    assert sagemaker.list_models(NameContains=TUNING)["Models"] == []
    assert sagemaker.list_endpoint_configs(NameContains=TUNING)["EndpointConfigs"] == []


def test_an_interrupted_tuner_leaves_no_endpoint(state: Path, folder: Path, tmp_path: Path) -> None:
    command = ["tune", "saved_model", "--deployment", str(folder / "e2e.yaml"), "--output", str(tmp_path)]
    process = subprocess.Popen(
        [*INFERENCE, *command],
        env={**os.environ, STATE_VARIABLE: str(state), CACHE_VARIABLE: str(ROOT / ".cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: TUNING in {status["endpoint"] for status in endpoint_status()}, 60, "the endpoint beside")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "interrupted: the tuning endpoint is removed" in told
    assert_no_tuning_endpoint()


def test_the_tuner_says_what_it_cannot_tune(state: Path, folder: Path) -> None:
    common = ("tune", "saved_model", "--deployment", str(folder / "e2e.yaml"))
    for arguments, part in (
        (("--endpoint", "int8"), "choose one on TensorFlow Serving without scaling: tensorflow"),
        (("--candidate", '{"threads": 1}'), "unknown key 'threads'"),
    ):
        done = inference(state, *common, *arguments)
        assert done.returncode == 1
        assert part in done.stderr
        assert "Traceback" not in done.stderr


def test_instances_follow_the_load_out_and_in(state: Path, folder: Path, tmp_path: Path) -> None:
    done = inference(
        state, "watch-scaling", "saved_model", "--deployment", str(folder / "e2e.yaml"), "--load-seconds", "60",
        "--limit-seconds", "180", "--output", str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / SCALED.endpoint / "moments.csv").open() as file:
        rows = list(csv.DictReader(file))
    seen = [int(row["current"]) for row in rows]
    assert (seen[0], max(seen), seen[-1]) == (1, 3, 1)
    assert rows[-1]["failed"] == "0"
    assert_the_simulation_foresees(tmp_path / SCALED.endpoint / "moments.csv")


def assert_the_simulation_foresees(watched: Path) -> None:
    """The requests as they were sent, simulated with the same scaling, go out as far and come back.

    When they do is compared by benchmarks.scaling_simulation, on a machine that has nothing else to do.
    """
    looks = read_moments(watched)
    endpoint = Endpoint(
        service=ServiceTimes.constant(5),
        workers=4,
        instances=1,
        bounds=Bounds(1, 3),
        tracking=Tracking(TargetTracking(10, scale_out_cooldown=30, scale_in_cooldown=60)),
        provisioning_seconds=provisioning_seconds(looks),
        time_scale=60,
    )
    # Watching ends as soon as the instances are back, which the simulation may have a moment later.
    quiet = replace(looks[-1], seconds=looks[-1].seconds + 60)
    foreseen, seen = milestones_in(simulate_events(endpoint, traffic_of([*looks, quiet]))), milestones_of(looks)
    assert seen.most == foreseen.most == 3
    for each in (seen, foreseen):
        assert None not in (each.grew, each.at_most, each.back), each


def test_every_metric_on_the_dashboards_was_measured() -> None:
    assert_every_metric_on_the_dashboards_was_measured()


def test_the_build_leaves_its_accuracy_and_a_picture(artifacts: str) -> None:
    summary = json.loads(read_object(f"{artifacts}summary.json"))
    assert summary["accuracy"]["openvino_int8"]["iou_ratio"] >= 0.99
    bucket, _, prefix = artifacts.removeprefix("s3://").partition("/")
    picture = boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}predictions.png")["Body"].read()
    assert picture.startswith(b"\x89PNG")


def test_destroy_leaves_nothing(folder: Path) -> None:
    done = destroy(folder / "e2e.yaml")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert_nothing_is_deployed()
