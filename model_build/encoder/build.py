"""The build: fetch, export, calibrate and quantize, evaluate, gate, package."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

import containers.encoder
import containers.serving.question_answering
import model_build.encoder
from containers.encoder.engines import installed_version, load_engine
from containers.encoder.model_files import TOKENIZER_FILE, window_limits
from containers.encoder.question_answering import QuestionAnswering
from containers.serving.contract import MODEL_ARCHIVE
from containers.serving.cpu import available_cores, instruction_sets
from containers.serving.errors import ServingError
from containers.serving.manifest import (
    SCHEMA_VERSION,
    Accuracy,
    Calibration,
    EngineVersion,
    Example,
    Manifest,
    Scores,
    Tensor,
)
from containers.serving.question_answering.answers import AnsweredQuestion, Item
from containers.serving.question_answering.windows import EncoderBatch, Windower
from model_build.artifact import Artifact, file_hashes, pack
from model_build.encoder import source, squad
from model_build.encoder.checkpoint import check_windows
from model_build.encoder.data import Split, calibration_batches, load_splits
from model_build.encoder.engines import Int8Engine, engine
from model_build.encoder.gate import check_gate, check_reference, gate_label
from model_build.encoder.recipe import PRECISIONS, EncoderRecipe, Precision, RandomSource
from model_build.errors import BuildError
from model_build.steps import StepCache, StepResult, code_hash

WORKLOAD = "encoder"


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build: an archive per precision, with its accuracy unless the weights are random."""

    artifacts: dict[Precision, Artifact]
    manifests: dict[Precision, Manifest]
    calibration: Split
    evaluation: Split

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json` as JSON values."""
        accuracy = self.manifests["int8"].accuracy
        return {
            "workload": WORKLOAD,
            "source": self.manifests["int8"].source,
            "engine": f"{self.manifests['int8'].engine.name} {self.manifests['int8'].engine.version}",
            "engines": {precision: manifest.engine.name for precision, manifest in self.manifests.items()},
            "recipe": self.manifests["int8"].recipe,
            "accuracy": None
            if accuracy is None
            else {
                "dataset": accuracy.dataset,
                "questions": accuracy.fp32.questions,
                "fp32": {"exact_match": accuracy.fp32.exact_match, "f1": accuracy.fp32.f1},
                "int8": {"exact_match": accuracy.artifact.exact_match, "f1": accuracy.artifact.f1},
                "f1_ratio": accuracy.f1_ratio,
                "gate": accuracy.gate,
            },
            "artifacts": {name: artifact.facts() for name, artifact in self.artifacts.items()},
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's scores, its answers by question id, and the answer it is surest of as the manifest's example."""

    scores: Scores
    predictions: dict[str, str]
    example: Example


def build(recipe: EncoderRecipe, cache: Path, output: Path, log: Callable[[str], object]) -> BuildResult:
    """Build both precisions into `output/<precision>/model.tar.gz`.

    `cache` keeps the result of every step by the hash of its inputs, so an interrupted or repeated build skips finished
    steps. Raises BuildError, also when INT8 fails the accuracy gate.
    """
    kit = engine(recipe.engine)
    if not instruction_sets() & set(kit.int8_instruction_sets):
        raise BuildError(
            f"INT8 can only be built where it runs: this processor has none of {', '.join(kit.int8_instruction_sets)}; "
            "build on C6i or newer, or choose another engine"
        )
    splits = load_splits(recipe)
    steps = StepCache(cache, log)
    facts = recipe.model_dump(mode="json")
    code = code_hash(
        Path(model_build.encoder.__file__).parent,
        Path(containers.encoder.__file__).parent,
        Path(containers.serving.question_answering.__file__).parent,
    )
    common = {"code": code, "versions": kit.versions(), "engine": recipe.engine}
    fetched = steps.run("fetch", {"source": facts["source"], **common}, lambda to: source.fetch(recipe.source, to))
    check_windows(fetched.folder, recipe.max_seq_length)
    windower = Windower.from_file(fetched.folder / TOKENIZER_FILE, window_limits(facts))
    fp32 = steps.run(
        "export", {"of": fetched.key}, lambda to: kit.export(source.load(fetched.folder, kit.attention), to)
    )
    windows = {name: facts[name] for name in ("max_seq_length", "doc_stride", "max_query_length")}
    sampled = {name: facts[name] for name in ("calibration_samples", "seed")}
    samples = calibration_batches(recipe, windower, splits.calibration)
    calibrated = Calibration(dataset=splits.calibration.name, samples=len(samples), seed=recipe.seed)
    int8 = steps.run(
        "quantize",
        {"of": fp32.key, "data": splits.calibration.sha256, **windows, **sampled},
        lambda to: kit.quantize(
            source.load(fetched.folder, kit.attention),
            fp32.folder,
            samples,
            to,
        ),
    )
    models: dict[Precision, StepResult] = {"fp32": fp32, "int8": int8}
    evaluated: dict[Precision, Evaluation] | None = None
    if not isinstance(recipe.source, RandomSource):
        evaluated = {
            precision: _evaluate(
                steps, _engine_name(kit, precision), precision, models[precision], windower, splits.evaluation, windows
            )
            for precision in PRECISIONS
        }
        check_reference(splits.evaluation.questions, evaluated["fp32"].predictions)
        check_gate(evaluated["fp32"].scores, evaluated["int8"].scores, recipe.gate.min_f1_ratio)
    artifacts: dict[Precision, Artifact] = {}
    manifests: dict[Precision, Manifest] = {}
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as scratch:
            staging = Path(scratch) / "model"
            shutil.copytree(models[precision].folder, staging)
            shutil.copy(fetched.folder / TOKENIZER_FILE, staging / TOKENIZER_FILE)
            manifest = _manifest(recipe, kit, precision, staging, calibrated, splits.evaluation.name, evaluated)
            artifacts[precision] = _packed(steps, staging, manifest, output / precision)
            manifests[precision] = manifest
    return BuildResult(artifacts, manifests, splits.calibration, splits.evaluation)


def _engine_name(kit: Int8Engine, precision: Precision) -> str:
    return kit.name if precision == "int8" else kit.fp32_engine


def _packed(steps: StepCache, staging: Path, manifest: Manifest, output: Path) -> Artifact:
    """Pack a staged model; its manifest has the hash of every file, so equal manifests mean equal archives."""
    result = steps.run("pack", {"manifest": manifest.to_json().decode()}, lambda to: pack(staging, manifest, to))
    output.mkdir(parents=True, exist_ok=True)
    archive = output / MODEL_ARCHIVE
    shutil.copyfile(result.folder / MODEL_ARCHIVE, archive)
    return Artifact.of(archive, manifest)


def _evaluate(
    steps: StepCache,
    engine_name: str,
    precision: Precision,
    model: StepResult,
    windower: Windower,
    split: Split,
    windows: dict[str, Any],
) -> Evaluation:
    def run(output: Path) -> None:
        answering = QuestionAnswering(load_engine(engine_name, model.folder, available_cores()), windower)
        with tqdm(total=len(split.questions), desc=f"evaluate {precision}", unit="question") as progress:
            answers: dict[str, AnsweredQuestion] = {}
            for begin in range(0, len(split.questions), 32):
                part = split.questions[begin : begin + 32]
                items = [Item(question.question, question.context) for question in part]
                try:
                    answers |= zip((question.id for question in part), answering.answer(items), strict=True)
                except ServingError as error:
                    raise BuildError(
                        f"the {precision} model fails on an evaluation question: {error.message}"
                    ) from error
                progress.update(len(part))
        predictions = {name: answer.answer for name, answer in answers.items()}
        scores = squad.score(split.questions, predictions)
        (output / "scores.json").write_text(json.dumps(asdict(scores)))
        (output / "predictions.json").write_text(json.dumps(predictions, indent=2, sort_keys=True))
        surest = max(split.questions, key=lambda question: answers[question.id].score)
        request = Item(surest.question, surest.context)
        example = Example(request=msgspec.to_builtins(request), response=msgspec.to_builtins(answers[surest.id]))
        (output / "example.json").write_bytes(msgspec.json.encode(example))

    result = steps.run("evaluate", {"of": model.key, "data": split.sha256, **windows}, run)
    return Evaluation(
        Scores(**json.loads((result.folder / "scores.json").read_text())),
        json.loads((result.folder / "predictions.json").read_text()),
        msgspec.json.decode((result.folder / "example.json").read_bytes(), type=Example),
    )


def _manifest(
    recipe: EncoderRecipe,
    kit: Int8Engine,
    precision: Precision,
    folder: Path,
    calibration: Calibration,
    evaluation_name: str,
    evaluated: dict[Precision, Evaluation] | None,
) -> Manifest:
    is_int8, engine_name = precision == "int8", _engine_name(kit, precision)
    accuracy = None
    if evaluated is not None:
        fp32, own = evaluated["fp32"].scores, evaluated[precision].scores
        ratio = own.f1 / fp32.f1
        accuracy = Accuracy(
            dataset=evaluation_name,
            fp32=fp32,
            artifact=own,
            f1_ratio=ratio,
            min_f1_ratio=recipe.gate.min_f1_ratio,
            gate=gate_label(ratio, recipe.gate.min_f1_ratio) if is_int8 else "reference",
        )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        workload=WORKLOAD,
        precision=precision,
        recipe=recipe.model_dump(mode="json"),
        source=source.describe(recipe.source),
        engine=EngineVersion(name=engine_name, version=installed_version(engine_name)),
        built_with=kit.versions(),
        inputs=tuple(Tensor(name=name, dtype="int64", shape=(-1, -1)) for name in EncoderBatch.INPUTS),
        instruction_sets_any_of=kit.int8_instruction_sets if is_int8 else (),
        calibration=calibration if is_int8 and kit.calibrates else None,
        accuracy=accuracy,
        example=evaluated[precision].example if evaluated is not None else None,
        files=file_hashes(folder),
    )
