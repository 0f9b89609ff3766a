"""The engines' benchmark compares engines that answer alike, and says which it could not run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.encoder.agreement import check, distance
from benchmarks.encoder.engine_worker import answer
from benchmarks.encoder.engines import REFERENCE, Models, Rival
from benchmarks.encoder.rival_models import with_rivals
from benchmarks.errors import BenchmarkError
from containers.serving.question_answering.windows import EncoderBatch

ASKED: dict[str, Any] = {"lengths": [13, 20], "rows": 1, "pad": 32, "bucket": 1, "masked": True, "logits": True}


def rival(name: str, precision: str = "int8") -> Rival:
    return Rival(name=name, kind="any", precision=precision)


def interpreter(folder: Path, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(interpreter(tmp_path / "engines/bin", "exit 0"), {("vnni", "int8"): tmp_path})


def test_equal_logits_are_not_apart_and_unrelated_ones_are_far() -> None:
    reference = [[1.0, 2.0, 3.0], [5.0, 5.0, 8.0]]
    assert distance(reference, reference) == 0
    assert distance([[2.0, 2.0, 2.0], [6.0, 6.0, 6.0]], reference) == pytest.approx(1)


def test_an_engine_whose_logits_are_shifted_is_apart() -> None:
    assert distance([[2.0, 3.0]], [[1.0, 2.0]]) > 1


def test_an_engine_that_answers_otherwise_is_refused_by_name() -> None:
    reference = [[1.0, 2.0, 3.0]]
    with pytest.raises(BenchmarkError, match=r"wrong INT8 answers otherwise than PyTorch eager FP32"):
        check([(rival(REFERENCE, "fp32"), reference), (rival("wrong INT8"), [[3.0, 2.0, 1.0]])])


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="broken INT8"):
        check([(rival(REFERENCE, "fp32"), [[1.0, 2.0]]), (rival("broken INT8"), [[float("nan"), 2.0]])])


def test_less_is_forgiven_in_fp32_than_in_int8() -> None:
    reference, near = [[1.0, 2.0, 3.0]], [[1.05, 2.0, 3.0]]
    found = check([(rival(REFERENCE, "fp32"), reference), (rival("near INT8"), near)])
    assert found == {REFERENCE: 0, "near INT8": pytest.approx(0.05 / 2**0.5)}
    with pytest.raises(BenchmarkError, match="near FP32"):
        check([(rival(REFERENCE, "fp32"), reference), (rival("near FP32", "fp32"), near)])


def test_a_worker_answers_with_the_logits_of_tokens_and_not_of_padding() -> None:
    def infer(batch: EncoderBatch) -> tuple[Any, Any]:
        assert batch.input_ids.shape == (1, 32)
        return batch.attention_mask.astype(np.float32), -batch.attention_mask.astype(np.float32)

    assert answer(infer, ASKED) == {"logits": [[1.0] * 13, [-1.0] * 13, [1.0] * 20, [-1.0] * 20]}


def test_a_worker_times_each_length() -> None:
    found = answer(lambda _batch: None, ASKED | {"logits": False})
    assert [len(each) for each in found.values() if isinstance(each, list)] == [2]
    assert list(found) == ["seconds"]


def test_engines_that_cannot_run_here_are_left_out_with_a_note(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    found = with_rivals(models, tmp_path / "cache", tmp_path, None)
    kinds = {rival.kind for rival in found.rivals}
    assert "ctranslate2" in kinds and not kinds & {"inductor", "ipex"}
    assert ["C++ compiler" in note for note in found.left_out] == [True, False]
    assert ["--ipex" in note for note in found.left_out] == [False, True]


def test_an_interpreter_without_the_extension_is_an_error_that_says_what_it_takes(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "sh")
    for python in (interpreter(tmp_path / "bare", "exit 1"), tmp_path / "missing"):
        with pytest.raises(BenchmarkError, match=r"--ipex .* could not build .*requirements-ipex\.txt"):
            with_rivals(models, tmp_path / "cache", tmp_path, python)


def test_a_model_is_made_once(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "sh")
    first = with_rivals(models, tmp_path / "cache", tmp_path, None)
    interpreter(models.python.parent, "exit 1")
    assert with_rivals(models, tmp_path / "cache", tmp_path, None).folders == first.folders
