"""Scores are SQuAD's own, the gate says what it measured, steps resume, archives repeat."""

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from containers.serving.manifest import EngineVersion, Manifest, Scores
from model_build.artifact import file_hashes, pack
from model_build.encoder.gate import check_gate, check_reference, gate_label
from model_build.encoder.recipe import EncoderRecipe
from model_build.encoder.squad import Answer, DatasetError, Question, f1, normalize, read, score
from model_build.errors import BuildError
from model_build.steps import StepCache, code_hash

DATA = Path(__file__).parents[3] / "model_build/encoder/data"


def document(answer: str = "Rome", start: int = 8) -> dict[str, object]:
    qas = [{"id": "1", "question": "where?", "answers": [{"text": answer, "answer_start": start}]}]
    return {
        "version": "1.1",
        "data": [{"title": "t", "paragraphs": [{"context": "it is in Rome"[0:8] + "Rome", "qas": qas}]}],
    }


def test_normalizing_drops_case_punctuation_articles_and_spaces() -> None:
    assert normalize("The  Amazon,   a RIVER!") == "amazon river"


@pytest.mark.parametrize(
    ("prediction", "gold", "expected"),
    [("the cat", "cat", 1.0), ("a big cat", "cat sat", 0.5), ("dog", "cat", 0.0), ("", "cat", 0.0)],
)
def test_f1_is_the_harmonic_mean_of_token_precision_and_recall(prediction: str, gold: str, expected: float) -> None:
    assert f1(prediction, gold) == pytest.approx(expected)


def test_the_best_gold_answer_counts_and_a_missing_prediction_is_wrong() -> None:
    questions = [
        Question("1", "t", "q", "c", (Answer("one two", 0), Answer("one", 0))),
        Question("2", "t", "q", "c", (Answer("three", 0),)),
    ]
    scores = score(questions, {"1": "The one"})
    assert (scores.exact_match, scores.f1, scores.questions) == (50.0, 50.0, 2)


def test_plain_and_gzipped_files_are_read(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.json", tmp_path / "a.json.gz"
    plain.write_text(json.dumps(document()))
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(plain) == read(zipped)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "cannot be read as SQuAD JSON"),
        ('{"data": [{"title": "t"}]}', "not in SQuAD v1.1 form"),
        ('{"data": []}', "has no questions"),
        (json.dumps(document("Paris")), "'Paris' is not at character 8"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as raised:
        read(path)
    assert "bad.json" in str(raised.value)


def test_the_projects_own_questions_are_enough_and_their_splits_share_no_passage() -> None:
    calibration, evaluation = read(DATA / "calibration.json"), read(DATA / "evaluation.json")
    assert len(evaluation) >= 150
    assert len({question.context for question in evaluation}) >= 20
    assert not {q.context for q in calibration} & {q.context for q in evaluation}


def test_a_recipe_has_working_defaults_and_refuses_what_makes_no_sense() -> None:
    assert EncoderRecipe().source.model_dump()["model_id"] == "csarron/bert-base-uncased-squad-v1"
    for wrong, message in (
        ({"engine": "tensorrt"}, "engine"),
        ({"doc_stride": 350}, "must be less than 317"),
        ({"data": {"kind": "squad", "calibration": "a", "evaluation": "a"}}, "overstates INT8"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(ValidationError, match=message):
            TypeAdapter(EncoderRecipe).validate_python(wrong)


def test_a_finished_step_is_not_run_again_and_a_failed_one_leaves_nothing(tmp_path: Path) -> None:
    steps, runs = StepCache(tmp_path, lambda _line: None), []

    def make(output: Path) -> None:
        runs.append(1)
        (output / "result").write_text("done")

    def fail(output: Path) -> None:
        (output / "half").write_text("")
        raise OSError("disk full")

    first, second = steps.run("export", {"a": 1}, make), steps.run("export", {"a": 1}, make)
    assert first == second
    assert len(runs) == 1
    assert steps.run("export", {"a": 2}, make).key != first.key
    with pytest.raises(OSError, match="disk full"):
        steps.run("quantize", {}, fail)
    assert not list(tmp_path.glob("*quantize*"))
    assert not list(tmp_path.glob(".*"))


def test_the_code_hash_changes_with_any_python_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    before = code_hash(tmp_path)
    (tmp_path / "b.py").write_text("")
    assert code_hash(tmp_path) != before


def test_equal_folders_give_equal_archives_with_a_manifest_that_lists_every_file(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/model.bin").write_bytes(b"weights")
        manifest = Manifest(
            schema_version=1, workload="w", precision="int8", recipe={}, source="s",
            engine=EngineVersion(name="e", version="1"), built_with={}, inputs=(), instruction_sets_any_of=(),
            calibration=None, accuracy=None, files=file_hashes(folder),
        )  # fmt: skip
        artifact = pack(folder, manifest, tmp_path / f"{name}-out")
        hashes.append(artifact.sha256)
        with tarfile.open(artifact.path) as tar:
            assert sorted(tar.getnames()) == ["manifest.json", "sub/model.bin"]
        assert list(manifest.files) == ["sub/model.bin"]
    assert hashes[0] == hashes[1]


def scores(f1_percent: float) -> Scores:
    return Scores(exact_match=50.0, f1=f1_percent, questions=160)


QUESTIONS = read(DATA / "evaluation.json")


def predictions(right: int) -> dict[str, str]:
    """Right answers to some questions, spread over the file, and a word of the context to all others."""
    step = max(1, len(QUESTIONS) // right) if right else len(QUESTIONS) + 1
    return {
        question.id: question.answers[0].text if index % step == 0 else question.context.split()[-1]
        for index, question in enumerate(QUESTIONS)
    }


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25])
def test_a_reference_that_answers_some_questions_is_one(share: float) -> None:
    check_reference(QUESTIONS, predictions(int(share * len(QUESTIONS))))


@pytest.mark.parametrize(
    "given",
    [
        {},
        predictions(0),
        {question.id: question.context for question in QUESTIONS},
        {question.id: " ".join(question.context.split()[:3]) for question in QUESTIONS},
    ],
    ids=["nothing", "last word", "whole context", "first words"],
)
def test_a_reference_near_chance_is_refused_with_both_figures(given: dict[str, str]) -> None:
    with pytest.raises(BuildError, match=r"F1 is \d+\.\d\d on \d+ questions, and random passages have \d+\.\d\d"):
        check_reference(QUESTIONS, given)


def test_a_few_lucky_answers_are_no_reference() -> None:
    few = QUESTIONS[:4]
    with pytest.raises(BuildError, match="does not answer the questions"):
        check_reference(few, {few[0].id: few[0].answers[0].text})


def test_the_gate_passes_at_its_limit_and_fails_below_with_before_after_and_limit() -> None:
    check_gate(scores(80.0), scores(79.2), 0.99)
    with pytest.raises(BuildError, match=r"80\.00 before quantization and 79\.10 after, the limit is 79\.20"):
        check_gate(scores(80.0), scores(79.1), 0.99)


@pytest.mark.parametrize(
    ("ratio", "minimum", "label"), [(1.01, 0.99, "99.9%"), (0.995, 0.99, "99%"), (0.97, 0.95, "passed")]
)
def test_the_gate_labels_the_strictest_limit_met(ratio: float, minimum: float, label: str) -> None:
    assert gate_label(ratio, minimum) == label
