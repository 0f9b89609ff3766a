"""The saved_model image runs the precision of its archive, and refuses what it cannot serve with one line."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from containers.saved_model.engine import load, version
from containers.saved_model.example import make_example
from containers.saved_model.signature import MODEL_FILE
from containers.serving.cpu import instruction_sets
from containers.serving.errors import StartupError
from containers.serving.manifest import EngineVersion, Example, Manifest
from model_build.artifact import file_hashes

SIDE = 224


def save_model(
    folder: Path, *, side: int = SIDE, name: str = "image", rows: int = 1, factor: float | None = None
) -> None:
    """A model whose mask is each pixel's brightness, times a factor."""
    image = ops.parameter([rows, side, side, 3], np.float32, name)
    image.output(0).get_tensor().set_names({name})
    mask = ops.reduce_mean(image, np.array([3], np.int64), keep_dims=True)
    if factor is not None:
        mask = ops.multiply(mask, np.float32(factor))
    mask.output(0).get_tensor().set_names({"mask"})
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(ov.Model([mask], [image], "brightness"), folder / MODEL_FILE, compress_to_fp16=False)


def save_archive(folder: Path, *, model: bool = True, **changes: Any) -> None:
    """Save an archive, with a model unless the folder has one."""
    if model:
        save_model(folder)
    values: dict[str, Any] = {
        "schema_version": 1,
        "workload": "saved_model",
        "precision": "fp32",
        "recipe": {},
        "source": "test",
        "engine": EngineVersion(name="openvino", version=version()),
        "built_with": {},
        "inputs": (),
        "instruction_sets_any_of": (),
        "calibration": None,
        "accuracy": None,
        "files": file_hashes(folder),
    }
    (folder / "manifest.json").write_bytes(Manifest(**{**values, **changes}).to_json())


def square(brightness: int, ground: int = 40) -> NDArray[np.uint8]:
    image = np.full((SIDE, SIDE, 3), ground, np.uint8)
    image[:60, :60] = brightness
    return image


def example(recorded: NDArray[np.uint8], **changes: Any) -> Example:
    """A picture with a bright square in a corner, and the brightness of the recorded picture as its mask."""
    made = make_example(square(220), (recorded / 255).mean(-1, dtype=np.float32), 0.05)
    return Example(request=made.request, response=made.response | changes, tolerance=made.tolerance)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_batch_is_the_masks_of_its_images(tmp_path: Path, precision: str) -> None:
    save_model(tmp_path)
    model = load(tmp_path, precision, threads=1)
    images = np.random.default_rng(0).random((3, SIDE, SIDE, 3), dtype=np.float32)
    masks = model.segment(images)
    assert (masks.shape, masks.dtype.name) == ((3, SIDE, SIDE, 1), "float32")
    assert np.abs(masks[..., 0] - images.mean(axis=-1)).max() < 1e-6


def test_threads_share_a_model_and_get_their_own_answers(tmp_path: Path) -> None:
    save_model(tmp_path)
    model = load(tmp_path, "fp32", threads=2, streams=2)
    wrong: list[float] = []

    def run(value: float) -> None:
        for _ in range(20):
            masks = model.segment(np.full((1, SIDE, SIDE, 3), value, np.float32))
            if abs(float(masks.mean()) - value) > 1e-6:
                wrong.append(value)

    threads = [threading.Thread(target=run, args=(number / 4,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif("avx512f" not in instruction_sets(), reason="bf16 needs AVX-512")
def test_bf16_keeps_about_three_digits(tmp_path: Path) -> None:
    save_model(tmp_path)
    model = load(tmp_path, "bf16", threads=1)
    images = np.random.default_rng(0).random((1, SIDE, SIDE, 3), dtype=np.float32)
    assert np.abs(model.segment(images)[..., 0] - images.mean(axis=-1)).max() < 0.01


@pytest.mark.parametrize("model", [{"side": 128}, {"name": "picture"}, {"rows": 4}])
def test_a_model_of_another_signature_is_refused(tmp_path: Path, model: dict[str, Any]) -> None:
    save_model(tmp_path, **model)
    with pytest.raises(StartupError, match=r"model\.xml must have one float32 tensor 'image' of shape \(1, 224, 224"):
        load(tmp_path, "fp32", threads=1)


def test_a_model_that_cannot_be_read_and_another_precision_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="runs int8, fp32, bf16"):
        load(tmp_path, "fp16", threads=1)
    with pytest.raises(StartupError, match=r"model\.xml cannot be read") as raised:
        load(tmp_path, "fp32", threads=1)
    assert "\n" not in str(raised.value)


def start(base: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "containers.saved_model", "serve"],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_HOST": "127.0.0.1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        (None, {}, "no manifest.json in the model archive"),
        ({"workload": "encoder"}, {}, "for workload 'encoder', this image serves 'saved_model'"),
        ({"engine": EngineVersion(name="tensorflow", version="2.19.1")}, {}, "was built for tensorflow 2.19.1"),
        ({"instruction_sets_any_of": ("avx1024_magic",)}, {}, "needs one of the instruction sets avx1024_magic"),
        ({"precision": "int4"}, {}, "the artifact's precision is 'int4', this image runs int8, fp32, bf16"),
        ({"files": {"model.bin": "0" * 64}}, {}, "model.bin is corrupt"),
        ({}, {"SAGEMAKER_MODEL_SERVER_WORKERS": "many"}, "SAGEMAKER_MODEL_SERVER_WORKERS is 'many': it must be a num"),
        ({}, {"SAGEMAKER_MODEL_SERVER_WORKERS": "0"}, "it must be a number from 1 to"),
        ({"example": example(square(220, ground=60))}, {}, "with a mean difference of 0.073; 0.05 may differ"),
        # A small object that is missing hardly changes the mean.
        ({"example": example(square(120))}, {}, "its mask shares 0.0% of the foreground with the recorded one"),
        (
            {"example": example(square(220), png="aGk=")},
            {},
            "the model fails on the manifest's example: the content",
        ),
        ({"example": example(square(220), png=1)}, {}, "the manifest's example is not valid: Expected `bytes`"),
    ],
)
def test_the_image_refuses_with_one_line_what_it_cannot_serve(
    tmp_path: Path, changes: dict[str, Any] | None, environment: dict[str, str], message: str
) -> None:
    if changes is not None:
        save_archive(tmp_path / "model", **changes)
    with start(tmp_path, **environment) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in errors
    assert errors.startswith("cannot serve: ")
    assert errors.count("\n") == 1


def test_a_model_that_answers_its_example_as_when_it_was_built_gets_as_far_as_its_port(tmp_path: Path) -> None:
    save_archive(tmp_path / "model", example=example(square(222)))
    with start(tmp_path, SAGEMAKER_BIND_TO_PORT="none") as process:
        _, errors = process.communicate(timeout=60)
    assert "SAGEMAKER_BIND_TO_PORT is 'none'" in errors


def test_a_model_whose_probabilities_are_not_numbers_ends_the_start(tmp_path: Path) -> None:
    save_model(tmp_path / "model", factor=np.nan)
    save_archive(tmp_path / "model", model=False, example=example(square(220)))
    with start(tmp_path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        "the model fails on the manifest's example: the model's probabilities for this image are not finite" in errors
    )


def test_the_image_answers_pings_and_images_and_stops_cleanly(tmp_path: Path) -> None:
    save_archive(tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with start(tmp_path, SAGEMAKER_BIND_TO_PORT=str(port)) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                wait_for(client)
                body = np.full((SIDE, SIDE, 3), 0.25, np.float32)
                answer = client.post("/invocations", json={"instances": body.tolist()})
                refused = client.post("/invocations", json={"instances": body[..., 0].tolist()})
                assert (answer.status_code, refused.status_code) == (200, 400)
                assert answer.json()["predictions"][7][7] == [0.25]
                assert client.get("/ping").status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == ""
    assert f"openvino {version()} fp32" in output


def wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if client.get("/ping").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("the server did not answer /ping within 60 s")
