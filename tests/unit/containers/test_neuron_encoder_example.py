"""A process of the neuron_encoder container answers the manifest's example as the build did, or it does not serve."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from containers.encoder.engines import load_engine
from containers.encoder.model_files import TOKENIZER_FILE
from containers.encoder.question_answering import QuestionAnswering
from containers.serving.contract import MANIFEST_FILE
from containers.serving.question_answering.answers import Item
from containers.serving.question_answering.windows import Windower, WindowLimits
from local_aws.processes import die_with_parent, free_port
from tests.unit.containers.test_neuron_encoder_container import wait_for
from tools.tiny_models import save_neuron_encoder

ITEM = Item("w1 w2", "w3 w4 w5 w6")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    save_neuron_encoder(model)
    return model


def record(archive: Path, **changes: object) -> None:
    """Give the manifest an example, with the answer that the model gives except for the changes."""
    windower = Windower.from_file(archive / TOKENIZER_FILE, WindowLimits(64, 16, 16))
    (answer,) = QuestionAnswering(load_engine("openvino", archive, 1), windower).answer([ITEM])
    response = msgspec.to_builtins(answer) | changes
    path = archive / MANIFEST_FILE
    manifest: dict[str, Any] = json.loads(path.read_text())
    manifest["example"] = {"request": msgspec.to_builtins(ITEM), "response": response, "tolerance": 0.01}
    path.write_text(json.dumps(manifest))


def start(archive: Path, port: int, device: str = "cpu") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "containers.neuron_encoder", "core", "0-0", str(port), "1"],
        env={
            **os.environ,
            "SAGEMAKER_BASE_DIR": str(archive.parent),
            "SAGEMAKER_BIND_TO_HOST": "127.0.0.1",
            "NEURON_ENCODER_DEVICE": device,
            "NEURON_ENCODER_VIRTUAL_CORES": "1",
            "NEURON_ENCODER_MODELS": "2",
        },
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip


def responds(process: "subprocess.Popen[str]", port: int) -> Callable[[], bool]:
    def ready() -> bool:
        assert process.poll() is None, process.communicate()[1]
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ping", timeout=20, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    return ready


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        ("cpu", {}),
        # Its answers mean nothing.
        ("timed", {"answer": "Rome"}),
    ],
)
def test_a_model_that_answers_its_example_as_when_it_was_built_serves(
    archive: Path, device: str, changes: dict[str, object]
) -> None:
    record(archive, **changes)
    port = free_port()
    with start(archive, port, device) as process:
        wait_for(responds(process, port))
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer": "Rome"}, "does not answer the manifest's example as it did when it was built: 'w"),
        ({"score": 0.99}, "with 0.990"),
        ({"score": "high"}, "the manifest's example is not valid"),
    ],
)
def test_a_model_that_answers_its_example_in_another_way_ends_the_start_with_one_line(
    archive: Path, changes: dict[str, object], said: str
) -> None:
    record(archive, **changes)
    with start(archive, free_port()) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said in errors
    assert errors.startswith("cannot serve: ")
    assert errors.count("\n") == 1
