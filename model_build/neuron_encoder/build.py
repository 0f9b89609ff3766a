"""The build: fetch, trace every bucket, compare with PyTorch, package."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import model_build.encoder
import model_build.neuron_encoder
from containers.neuron_encoder.artifact import INPUTS, NEURON_FILE, TOKENIZER_FILE, Bucket, NeuronArtifact
from containers.neuron_encoder.sdk import RELEASE
from containers.serving.manifest import SCHEMA_VERSION, EngineVersion, Manifest, Tensor
from containers.serving.question_answering.windows import Windower, WindowLimits
from model_build.artifact import Artifact, file_hashes, pack
from model_build.encoder.data import evaluation_split
from model_build.encoder.recipe import RandomSource
from model_build.errors import BuildError
from model_build.neuron_encoder.parity import PARITY_FILE, Parity, check_parity
from model_build.neuron_encoder.quality import Quality, evaluate, make_example
from model_build.neuron_encoder.recipe import LONGEST, NeuronEncoderRecipe
from model_build.neuron_encoder.toolchains import Toolchain, no_device, toolchain
from model_build.steps import StepCache, StepResult, code_hash

WORKLOAD = "neuron_encoder"
_WINDOWS = ("doc_stride", "max_query_length")
"""Settings that the container cuts windows with."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build: one archive, named after its target, and its difference from PyTorch.

    quality: scores of the model in PyTorch; None for random weights.
    """

    artifact: Artifact
    manifest: Manifest
    traced: NeuronArtifact
    parity: Parity
    quality: Quality | None
    warnings: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json` as JSON values."""
        return {
            "workload": WORKLOAD,
            "source": self.manifest.source,
            "engine": f"{self.manifest.engine.name} {self.manifest.engine.version}",
            "recipe": self.manifest.recipe,
            "traced": msgspec.to_builtins(self.traced),
            "parity": self.parity.summary(),
            "reference": self.quality.summary() if self.quality else None,
            "warnings": list(self.warnings),
            "artifacts": {self.traced.target: self.artifact.facts()},
        }


@dataclass(frozen=True, slots=True)
class Source:
    """The functions that fetch a model to this machine and load it.

    The only implementation is model_build.encoder.source, which imports PyTorch.

    describe: returns a one-line description for the manifest.
    fetch: writes the model into a folder.
    load: loads a fetched folder, given transformers' name of the attention implementation.
    """

    describe: Callable[[Any], str]
    fetch: Callable[[Any, Path], object]
    load: Callable[[Path, str], Any]


def hub_source() -> Source:
    """Return the source of the encoder build, with the model loaded as a function of three tensors."""
    from model_build.encoder import source
    from model_build.encoder.engines import LogitsOnly

    return Source(
        source.describe, source.fetch, lambda folder, attention: LogitsOnly(source.load(folder, attention)).eval()
    )


def build(
    recipe: NeuronEncoderRecipe,
    cache: Path,
    output: Path,
    log: Callable[[str], object],
    *,
    tools: Callable[[NeuronEncoderRecipe], Toolchain] = toolchain,
    source: Callable[[], Source] = hub_source,
) -> BuildResult:
    """Build `output/<target>/model.tar.gz`; `cache` keeps the result of every step by the hash of its inputs.

    Raises BuildError, also if the model answers near chance, and if the traced model's logits differ too much from
    PyTorch's.
    """
    for warning in recipe.warnings:
        log(f"warning: {warning}")
    kit = tools(recipe)
    models = source()
    facts = recipe.model_dump(mode="json")
    versions = kit.versions()
    common = {"code": _code(), "versions": versions}
    steps = StepCache(cache, log)
    fetched = steps.run("fetch", {"source": facts["source"], **common}, lambda to: models.fetch(recipe.source, to))
    _check_positions(fetched.folder, recipe)
    model = models.load(fetched.folder, kit.attention)
    quality, windower = None, None
    if not isinstance(recipe.source, RandomSource):
        limits = {"max_seq_length": recipe.lengths[-1], **{name: facts[name] for name in _WINDOWS}}
        windower = Windower.from_file(fetched.folder / TOKENIZER_FILE, WindowLimits(**limits))
        split = evaluation_split(recipe.data, recipe.evaluation_questions)
        quality = evaluate(steps, fetched, windower, split, kit.eager(model), limits)
    traces = _trace(steps, kit, recipe, fetched, model, versions)
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch)
        for folder in traces:
            shutil.copytree(folder, staging, dirs_exist_ok=True)
        parity = _parity(kit, recipe, fetched.folder, model, staging)
        traced = NeuronArtifact(
            target=recipe.target,
            sdk=versions,
            inputs=INPUTS,
            buckets=tuple(
                Bucket(length=length, batch=batch, file=kit.file(length, batch)) for length, batch in recipe.shapes
            ),
            cores_per_copy=recipe.cores_per_copy,
            device_bytes=_device_bytes(recipe, staging),
        )
        (staging / NEURON_FILE).write_bytes(traced.to_json())
        (staging / PARITY_FILE).write_text(json.dumps(parity.summary(), indent=2, sort_keys=True))
        shutil.copy(fetched.folder / TOKENIZER_FILE, staging / TOKENIZER_FILE)
        name, version = kit.engine
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            workload=WORKLOAD,
            precision=_precision(recipe),
            recipe=facts,
            source=models.describe(recipe.source),
            engine=EngineVersion(name=name, version=version),
            built_with=versions | ({} if recipe.target == "cpu" else {"neuron-sdk": RELEASE.version}),
            inputs=tuple(Tensor(name=name, dtype="int64", shape=(-1, -1)) for name in INPUTS),
            instruction_sets_any_of=(),
            calibration=None,
            accuracy=None,
            example=make_example(recipe, quality, windower, kit.traced(staging)) if quality and windower else None,
            files=file_hashes(staging),
        )
        artifact = pack(staging, manifest, output / recipe.target)
        return BuildResult(artifact, manifest, traced, parity, quality, recipe.warnings)


def _trace(
    steps: StepCache,
    kit: Toolchain,
    recipe: NeuronEncoderRecipe,
    fetched: StepResult,
    model: Any,
    versions: dict[str, str],
) -> list[Path]:
    """Trace each file into its own folder, so an interrupted build resumes at the same bucket."""
    folders: dict[str, Path] = {}
    for length, batch in recipe.traced_shapes:
        name = kit.file(length, batch)
        if name in folders:
            continue
        inputs = {
            "of": fetched.key,
            "target": recipe.target,
            "shape": [length, batch] if recipe.target != "cpu" else None,
            "arguments": recipe.arguments,
            "dynamic_batch": recipe.dynamic_batch,
            "async_load": recipe.async_load,
            "versions": versions,
        }

        def make(to: Path, length: int = length, batch: int = batch) -> None:
            kit.trace(model, length, batch, recipe, to)

        folders[name] = steps.run(f"trace-{length}x{batch}" if inputs["shape"] else "convert", inputs, make).folder
    return list(folders.values())


def _parity(kit: Toolchain, recipe: NeuronEncoderRecipe, fetched: Path, model: Any, staging: Path) -> Parity:
    tolerance = recipe.largest_difference
    traced = kit.traced(staging)
    if traced is None:
        return Parity(False, tolerance, {}, no_device(recipe.target))
    vocabulary = json.loads((fetched / "config.json").read_text())["vocab_size"]
    return check_parity(recipe.shapes, vocabulary, recipe.seed, tolerance, kit.eager(model), traced)


def _check_positions(fetched: Path, recipe: NeuronEncoderRecipe) -> None:
    positions = json.loads((fetched / "config.json").read_text()).get("max_position_embeddings", LONGEST)
    if recipe.lengths[-1] > positions:
        raise BuildError(
            f"lengths are {', '.join(map(str, recipe.lengths))}: the model has {positions} positions; set at most "
            f"{positions}"
        )


def _device_bytes(recipe: NeuronEncoderRecipe, staging: Path) -> int:
    """Return the accelerator memory of the traced files: each has its own weights, and all are loaded together."""
    if recipe.target == "cpu":
        return 0
    return sum(path.stat().st_size for path in staging.glob("*.pt"))


def _precision(recipe: NeuronEncoderRecipe) -> str:
    if recipe.target == "cpu" or (recipe.target == "inf2" and "--auto-cast" not in " ".join(recipe.arguments)):
        return "fp32"
    return "fp32" if "none" in recipe.arguments or "--auto-cast=none" in recipe.arguments else "bf16"


def _code() -> str:
    return code_hash(
        Path(model_build.neuron_encoder.__file__).parent,
        Path(model_build.encoder.__file__).parent / "engines",
    )
