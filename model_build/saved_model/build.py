"""The build: read, check, train, export, convert and quantize, evaluate, gate, package."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import containers.saved_model
import model_build.saved_model
from containers.saved_model import engine
from containers.saved_model.images import to_floats
from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME, WORKLOAD
from containers.serving.cpu import INT8_INSTRUCTION_SETS, available_cores, instruction_sets
from containers.serving.errors import StartupError
from containers.serving.manifest import SCHEMA_VERSION, Calibration, EngineVersion, Example, Manifest, Tensor
from model_build.artifact import Artifact, file_hashes, pack
from model_build.errors import BuildError
from model_build.saved_model import inference
from model_build.saved_model.data import Dataset, Splits, find, split
from model_build.saved_model.example import choose_example
from model_build.saved_model.gate import ACCURACY_FILE, Accuracy, check_gate, check_reference
from model_build.saved_model.pictures import draw, write_samples
from model_build.saved_model.recipe import Precision, SavedModelRecipe
from model_build.saved_model.reference import REFERENCE_FILE, write_reference
from model_build.saved_model.scores import score
from model_build.saved_model.training import TRAINING_FILE, Training
from model_build.steps import StepCache, StepResult, code_hash

TENSORFLOW = "tensorflow"
SERVABLE = Path("model/1")
"""Path of the SavedModel in its archive, `<model name>/<version>`, as TensorFlow Serving expects it."""
INFERENCE_SCRIPT = Path("code/inference.py")
"""Path in the archive where SageMaker's TensorFlow Serving container looks for a script."""
PICTURE_FILE = "predictions.png"
SAMPLES_FILE = "samples.zip"
_SAMPLES = 16
_MASKS_FILE = "masks.npy"
_INSTRUCTION_SETS: dict[Precision, tuple[str, ...]] = {
    "fp32": (),
    "int8": INT8_INSTRUCTION_SETS,
    "bf16": ("avx512_bf16", "amx_bf16"),
}
_TRAINING_SETTINGS = {
    *("test_share", "validation_share", "depth", "base_width"),
    *("epochs", "patience", "batch_size", "learning_rate", "seed"),
}
"""Settings that affect the weights; changes to other settings must not retrain the network."""


class Toolchain(Protocol):
    """The build steps that need TensorFlow or NNCF; see `toolchain.TensorFlowToolchain`."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result, including `tensorflow`."""

    def train(self, recipe: SavedModelRecipe, training: Dataset, validation: Dataset, output: Path) -> None:
        """Train, and write the model and `training.json` into a folder."""

    def export(self, trained: Path, output: Path, *, png_signature: bool) -> None:
        """Write a SavedModel from the output folder of `train`."""

    def predict(self, saved_model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities of shape (images, 224, 224, 1)."""

    def convert(self, saved_model: Path, output: Path) -> None:
        """Write the FP32 model for OpenVINO."""

    def halve(self, fp32: Path, output: Path) -> None:
        """Write OpenVINO's FP32 model with 16-bit weights."""

    def quantize(self, fp32: Path, images: NDArray[np.uint8], output: Path) -> None:
        """Write OpenVINO's INT8 model."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build.

    source: description of the source of the images.
    images: number of images by split.
    artifacts, accuracy: archives and their accuracy by artifact name.
    picture: comparison of images, truth and predictions.
    samples: images to send as requests.
    reference: TensorFlow's responses to a few images, as written by reference.write_reference.
    """

    recipe: SavedModelRecipe
    source: str
    images: dict[str, int]
    training: Training
    versions: dict[str, str]
    artifacts: dict[str, Artifact]
    accuracy: dict[str, Accuracy]
    picture: Path
    samples: Path
    reference: Path

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json` as JSON values."""
        return {
            "workload": WORKLOAD,
            "source": self.source,
            "images": self.images,
            "recipe": self.recipe.model_dump(mode="json"),
            "training": asdict(self.training),
            "versions": self.versions,
            "accuracy": {name: asdict(accuracy) for name, accuracy in self.accuracy.items()},
            "artifacts": {name: artifact.facts() for name, artifact in self.artifacts.items()},
        }


@dataclass(frozen=True, slots=True)
class _Made:
    """A model before it is packed.

    rows: images per request, -1 for any number.
    model: step whose folder the archive contains at `place`.
    place: path of the model in the archive.
    """

    precision: Precision
    engine: str
    rows: int
    model: StepResult
    place: Path


def build(
    recipe: SavedModelRecipe, toolchain: Toolchain, cache: Path, output: Path, log: Callable[[str], object]
) -> BuildResult:
    """Build `output/tensorflow/model.tar.gz`, `output/openvino_<precision>/model.tar.gz`, picture and samples.

    `cache` keeps the result of every step by the hash of its inputs, so an interrupted or repeated build skips finished
    steps. Raises BuildError, also when an artifact fails the accuracy gate.
    """
    if "int8" in recipe.precisions and not instruction_sets() & set(_INSTRUCTION_SETS["int8"]):
        raise BuildError(
            f"INT8 can only be built where it runs: this processor has none of {', '.join(_INSTRUCTION_SETS['int8'])}; "
            "build on C6i or newer, or remove int8 from precisions"
        )
    steps = StepCache(cache, log)
    code = code_hash(Path(model_build.saved_model.__file__).parent, Path(containers.saved_model.__file__).parent)
    source = find(recipe.source)
    read = steps.run(
        "data",
        {"source": source.fingerprint, "code": code, "versions": toolchain.versions()},
        lambda to: source.load().save(to),
    )
    splits = split(Dataset.load(read.folder), recipe)
    trained = _train(recipe, toolchain, steps, read, splits)
    saved_model = _export(toolchain, steps, trained, png_signature=False)
    calibration = splits.train.images[: recipe.calibration_images]
    served = _export(toolchain, steps, trained, png_signature=True) if recipe.png_signature else saved_model
    made = {TENSORFLOW: _Made("fp32", TENSORFLOW, -1, served, SERVABLE)} | {
        f"{engine.ENGINE_NAME}_{precision}": _Made(precision, engine.ENGINE_NAME, 1, model, Path())
        for precision, model in _convert(recipe, toolchain, steps, saved_model, calibration).items()
    }
    masks = {name: _predict(steps, one, toolchain, splits.test.images) for name, one in made.items()}
    accuracy = _gate(recipe, source.name, splits.test, made, masks)
    artifacts = {
        name: _pack(
            one,
            _manifest(
                recipe,
                toolchain.versions(),
                one,
                source.name,
                len(calibration),
                None if one.engine == TENSORFLOW else choose_example(splits.test.images, masks[name]),
            ),
            accuracy[name],
            output / name,
        )
        for name, one in made.items()
    }
    drawn = {name: predicted for name, predicted in masks.items() if name in (TENSORFLOW, "openvino_int8")}
    draw(splits.test, drawn, output / PICTURE_FILE)
    write_samples(splits.test, _SAMPLES, output / SAMPLES_FILE)
    write_reference(splits.test.images, masks[TENSORFLOW], output / REFERENCE_FILE)
    return BuildResult(
        recipe=recipe,
        source=source.name,
        images={name: len(getattr(splits, name).images) for name in ("train", "validation", "test")},
        training=Training(**json.loads((trained.folder / TRAINING_FILE).read_text())),
        versions=toolchain.versions(),
        artifacts=artifacts,
        accuracy=accuracy,
        picture=output / PICTURE_FILE,
        samples=output / SAMPLES_FILE,
        reference=output / REFERENCE_FILE,
    )


def _train(
    recipe: SavedModelRecipe, toolchain: Toolchain, steps: StepCache, read: StepResult, splits: Splits
) -> StepResult:
    facts = recipe.model_dump(mode="json", include=_TRAINING_SETTINGS)
    return steps.run(
        "train",
        # The last digits of the weights depend on the number of cores.
        {"of": read.key, "cores": available_cores(), **facts},
        lambda to: toolchain.train(recipe, splits.train, splits.validation, to),
    )


def _export(toolchain: Toolchain, steps: StepCache, trained: StepResult, *, png_signature: bool) -> StepResult:
    return steps.run(
        "export",
        {"of": trained.key, "png_signature": png_signature},
        lambda to: toolchain.export(trained.folder, to, png_signature=png_signature),
    )


def _convert(
    recipe: SavedModelRecipe,
    toolchain: Toolchain,
    steps: StepCache,
    saved_model: StepResult,
    calibration: NDArray[np.uint8],
) -> dict[Precision, StepResult]:
    fp32 = steps.run("convert", {"of": saved_model.key}, lambda to: toolchain.convert(saved_model.folder, to))
    models: dict[Precision, StepResult] = {}
    for precision in recipe.precisions:
        match precision:
            case "fp32":
                models[precision] = fp32
            case "bf16":
                models[precision] = steps.run("halve", {"of": fp32.key}, lambda to: toolchain.halve(fp32.folder, to))
            case "int8":
                models[precision] = steps.run(
                    "quantize",
                    {"of": fp32.key, "images": len(calibration)},
                    lambda to: toolchain.quantize(fp32.folder, calibration, to),
                )
    return models


def _predict(steps: StepCache, made: _Made, toolchain: Toolchain, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    done = steps.run(
        "evaluate", {"of": made.model.key}, lambda to: np.save(to / _MASKS_FILE, _run(made, toolchain, images))
    )
    masks: NDArray[np.float32] = np.load(done.folder / _MASKS_FILE, allow_pickle=False)
    return masks


def _run(made: _Made, toolchain: Toolchain, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return masks from the engine that will serve the model: TensorFlow, or the container's own."""
    if made.engine == TENSORFLOW:
        return toolchain.predict(made.model.folder, images)
    try:
        model = engine.load(made.model.folder, made.precision, available_cores())
    except StartupError as error:
        raise BuildError(
            f"{made.precision} can only be scored where it runs: {error}; "
            f"build on C6i or newer, or remove {made.precision} from precisions"
        ) from error
    bar = tqdm(images, desc=f"evaluate {made.engine} {made.precision}", unit="image")
    return np.concatenate([model.segment(to_floats(image[np.newaxis])) for image in bar])


def _gate(
    recipe: SavedModelRecipe,
    source: str,
    test: Dataset,
    made: Mapping[str, _Made],
    masks: Mapping[str, NDArray[np.float32]],
) -> dict[str, Accuracy]:
    dataset = f"{len(test.images)} held-out images of {source}"
    fp32 = score(test.masks, masks[TENSORFLOW])
    return {
        name: check_reference(dataset, fp32, recipe.gate)
        if name == TENSORFLOW
        else check_gate(one.precision, dataset, fp32, score(test.masks, masks[name]), recipe.gate)
        for name, one in made.items()
    }


def _manifest(
    recipe: SavedModelRecipe,
    versions: dict[str, str],
    made: _Made,
    source: str,
    calibration_images: int,
    example: Example | None,
) -> Manifest:
    calibration = Calibration(dataset=f"training images of {source}", samples=calibration_images, seed=recipe.seed)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        workload=WORKLOAD,
        precision=made.precision,
        recipe=recipe.model_dump(mode="json"),
        source=source,
        engine=EngineVersion(name=made.engine, version=versions[made.engine]),
        built_with=versions,
        inputs=(Tensor(name=INPUT_NAME, dtype="float32", shape=(made.rows, IMAGE_SIDE, IMAGE_SIDE, CHANNELS)),),
        instruction_sets_any_of=_INSTRUCTION_SETS[made.precision],
        calibration=calibration if made.precision == "int8" else None,
        # The manifest's accuracy is for question answering; this workload's is in ACCURACY_FILE.
        accuracy=None,
        example=example,
        files={},
    )


def _pack(made: _Made, manifest: Manifest, accuracy: Accuracy, output: Path) -> Artifact:
    with tempfile.TemporaryDirectory() as scratch:
        staging = Path(scratch) / "model"
        shutil.copytree(made.model.folder, staging / made.place)
        if made.engine == TENSORFLOW and manifest.recipe["png_signature"]:
            (staging / INFERENCE_SCRIPT).parent.mkdir()
            shutil.copyfile(inference.__file__, staging / INFERENCE_SCRIPT)
        (staging / ACCURACY_FILE).write_text(json.dumps(asdict(accuracy), indent=2, sort_keys=True))
        return pack(staging, msgspec.structs.replace(manifest, files=file_hashes(staging)), output)
