"""The encoder image ends its start with one line where the archive's files are damaged or do not fit each other."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from containers.encoder.engines import load_engine
from containers.encoder.engines.vnni import VERSION
from containers.encoder.model_files import TOKENIZER_FILE, window_limits
from containers.encoder.question_answering import QuestionAnswering
from containers.neuron_encoder.artifact import NEURON_FILE
from containers.serving.contract import MANIFEST_FILE
from containers.serving.errors import StartupError
from containers.serving.manifest import sha256
from containers.serving.question_answering.answers import Item
from containers.serving.question_answering.windows import Windower, WindowLimits
from tools.tiny_models import save_neuron_encoder
from tools.vnni_models import TINY, FloatBert, rewrite, runnable_library

LIMITS = WindowLimits(64, 16, 16)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runnable_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive of a model for OpenVINO, extracted."""
    model = tmp_path / "model"
    save_neuron_encoder(model)
    (model / NEURON_FILE).unlink()
    recipe = {"max_seq_length": 64, "doc_stride": 16, "max_query_length": 16}
    change_manifest(model, lambda manifest: manifest.update(workload="encoder", recipe=recipe))
    return model


@pytest.fixture
def vnni_archive(archive: Path, library: Path) -> Path:
    """The same for the engine vnni."""
    FloatBert.random(TINY).save(archive, library)
    change_manifest(archive, lambda manifest: manifest.update(engine={"name": "vnni", "version": VERSION}))
    return archive


def change_manifest(archive: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, whose hashes are then those of the files again."""
    path = archive / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["files"] = {file.name: sha256(file) for file in archive.iterdir() if file != path}
    change(manifest)
    path.write_text(json.dumps(manifest))


def serve(archive: Path) -> str:
    """What the image says when it cannot serve."""
    done = subprocess.run(
        [sys.executable, "-m", "containers.encoder", "serve"],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(archive.parent), "SAGEMAKER_BIND_TO_PORT": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, (done.returncode, done.stderr)
    (line,) = done.stderr.splitlines()
    assert line.startswith("cannot serve: ")
    return line


def vocabulary_of(archive: Path, highest: int) -> None:
    tokenizer = json.loads((archive / TOKENIZER_FILE).read_text())
    tokenizer["model"]["vocab"]["surplus"] = highest
    (archive / TOKENIZER_FILE).write_text(json.dumps(tokenizer))


def test_an_archive_that_is_whole_gets_as_far_as_its_port(archive: Path) -> None:
    assert "SAGEMAKER_BIND_TO_PORT is 'none'" in serve(archive)


def test_an_archive_of_the_engine_vnni_gets_as_far_as_its_port(vnni_archive: Path) -> None:
    assert "SAGEMAKER_BIND_TO_PORT is 'none'" in serve(vnni_archive)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"heads": "0"}, "heads is 0"),
        ({"heads": "3"}, "hidden is 64 for 3 heads"),
        ({"hidden": "63"}, "hidden is 63 for 2 heads"),
        ({"layers": "-1"}, "layers is '-1'"),
        ({"words": "4000"}, "its metadata calls for int8 of shape (4000, 64)"),
        ({"positions": "30000"}, "its metadata calls for float32 of shape (30000, 64)"),
    ],
)
def test_weights_whose_metadata_disagree_end_the_start(
    vnni_archive: Path, metadata: dict[str, str | None], said: str
) -> None:
    rewrite(vnni_archive, metadata=metadata)
    change_manifest(vnni_archive, lambda _manifest: None)

    assert said in serve(vnni_archive)


@pytest.mark.parametrize("engine", ["openvino", "vnni"])
def test_a_tokenizer_with_more_words_than_the_model_ends_the_start(request: pytest.FixtureRequest, engine: str) -> None:
    archive: Path = request.getfixturevalue("archive" if engine == "openvino" else "vnni_archive")
    vocabulary_of(archive, 100)
    change_manifest(archive, lambda _manifest: None)

    assert "the tokenizer's highest token id plus one is 101" in serve(archive)


def test_windows_longer_than_the_models_positions_end_the_start(vnni_archive: Path) -> None:
    change_manifest(vnni_archive, lambda manifest: manifest["recipe"].update(max_seq_length=81))

    assert "max_seq_length is 81, model.safetensors has 80 embeddings" in serve(vnni_archive)


def with_example(archive: Path, **changes: object) -> None:
    """Give the manifest an example, with the response that the model gives except for the changes."""
    manifest = json.loads((archive / "manifest.json").read_text())
    windower = Windower.from_file(archive / TOKENIZER_FILE, window_limits(manifest["recipe"]))
    item = Item("hello", "hello world hello")
    answer = QuestionAnswering(load_engine("openvino", archive, 1), windower).answer([item])[0]
    response = msgspec.to_builtins(answer) | changes
    change_manifest(
        archive, lambda manifest: manifest.update(example={"request": msgspec.to_builtins(item), "response": response})
    )


def test_a_model_that_answers_its_example_as_when_it_was_built_gets_as_far_as_its_port(archive: Path) -> None:
    with_example(archive)

    assert "SAGEMAKER_BIND_TO_PORT is 'none'" in serve(archive)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"answer": "Rome"}, "instead of 'Rome'"),
        ({"start": 3}, "does not answer the manifest's example as it did when it was built"),
        ({"score": 1.0}, "with 1.000"),
        ({"score": "high"}, "the manifest's example is not valid"),
    ],
)
def test_a_model_that_answers_its_example_in_another_way_ends_the_start(
    archive: Path, changes: dict[str, object], said: str
) -> None:
    with_example(archive, **changes)

    assert said in serve(archive)


def test_an_engine_that_does_not_exist_ends_the_start(archive: Path) -> None:
    change_manifest(archive, lambda manifest: manifest.update(engine={"name": "abacus", "version": "1"}))

    assert "unknown engine 'abacus'" in serve(archive)


def test_a_model_that_fails_when_it_runs_ends_the_start(archive: Path) -> None:
    weights = np.frombuffer((archive / "model.bin").read_bytes(), dtype=np.uint8).copy()
    weights[:] = 0xFF
    (archive / "model.bin").write_bytes(weights.tobytes())
    change_manifest(archive, lambda _manifest: None)

    assert "the model does not run" in serve(archive) or "cannot load the model" in serve(archive)


@pytest.mark.parametrize("file", ["model.xml", "model.bin"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_a_model_file_that_is_cut_off_is_refused_with_one_line(archive: Path, file: str, kept: float) -> None:
    content = (archive / file).read_bytes()
    (archive / file).write_bytes(content[: int(len(content) * kept)])

    with pytest.raises(StartupError, match="openvino cannot load the model") as raised:
        load_engine("openvino", archive, 1)
    assert "\n" not in str(raised.value)


def test_a_model_without_berts_inputs_is_refused(archive: Path) -> None:
    xml = (archive / "model.xml").read_text()
    (archive / "model.xml").write_text(xml.replace("input_ids", "pixels"))

    with pytest.raises(StartupError, match=r"model\.xml has inputs .*pixels.*: it must have inputs among input_ids"):
        load_engine("openvino", archive, 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": "1.0"}',
        b'{"model": {"type": "BPE", "vocab": {}}}',
    ],
)
def test_a_damaged_tokenizer_is_refused_with_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TOKENIZER_FILE).write_bytes(content)

    with pytest.raises(StartupError, match=r"tokenizer\.json is not a usable tokenizer") as raised:
        Windower.from_file(tmp_path / TOKENIZER_FILE, LIMITS)
    assert "\n" not in str(raised.value)


def test_a_tokenizer_that_fails_on_an_unknown_word_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[CLS]": 0, "[SEP]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / TOKENIZER_FILE))

    with pytest.raises(StartupError, match=r"tokenizer\.json is not a usable tokenizer \(.*\[UNK\]"):
        Windower.from_file(tmp_path / TOKENIZER_FILE, LIMITS)


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        Windower.from_file(tmp_path / TOKENIZER_FILE, LIMITS)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({}, "recipe has no max_seq_length"),
        ({"max_seq_length": "64"}, "max_seq_length is '64': it must be a whole number from 5 to 8192"),
        ({"max_seq_length": 10**9}, "max_seq_length is 1000000000"),
        ({"max_seq_length": 64.0}, "max_seq_length is 64.0"),
        ({"max_seq_length": True}, "max_seq_length is True"),
        ({"doc_stride": -1}, "doc_stride is -1"),
        ({"doc_stride": None}, "doc_stride is None"),
        ({"max_query_length": 0}, "max_query_length is 0"),
        ({"max_query_length": 60}, "doc_stride is 16: it must be at least 0 and less than 1"),
    ],
)
def test_a_recipe_whose_windows_cannot_be_is_refused(recipe: dict[str, object], said: str) -> None:
    whole = {"max_seq_length": 64, "doc_stride": 16, "max_query_length": 16} if recipe else {}

    with pytest.raises(StartupError, match="the manifest's recipe") as raised:
        window_limits({**whole, **recipe})
    assert said in str(raised.value)
