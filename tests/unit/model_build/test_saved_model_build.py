"""A build runs its steps once, gates every artifact, and packs what its server expects."""

import gzip
import json
import sys
import tarfile
import types
import zipfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino as ov
import pytest
import typer
from numpy.typing import NDArray
from openvino import opset13 as ops
from PIL import Image
from typer.testing import CliRunner, Result

from containers.saved_model import engine
from containers.saved_model.example import SEGMENTATION, respond
from containers.saved_model.images import to_floats
from containers.serving.errors import StartupError
from containers.serving.example import check_example
from containers.serving.manifest import Manifest, load_manifest
from model_build.errors import BuildError
from model_build.saved_model import __main__ as command
from model_build.saved_model import build as build_module
from model_build.saved_model.build import BuildResult, build
from model_build.saved_model.data import Dataset, find
from model_build.saved_model.recipe import FolderSource, SavedModelRecipe
from tests.unit.model_build.fake_s3 import FakeS3
from tests.unit.model_build.fake_s3 import s3 as s3

SIDE = 224


def save_brightness(folder: Path, bias: float = 0.0) -> None:
    """A model whose probability is each pixel's brightness plus a bias."""
    image = ops.parameter([1, SIDE, SIDE, 3], np.float32, "image")
    image.output(0).get_tensor().set_names({"image"})
    mask = ops.add(ops.reduce_mean(image, np.array([3], np.int64), keep_dims=True), np.float32(bias))
    mask.output(0).get_tensor().set_names({"mask"})
    model = ov.Model([mask], [image], "brightness")
    for number, node in enumerate(model.get_ordered_ops()):
        # OpenVINO's own names count the nodes of the whole process.
        node.set_friendly_name(f"node-{number}")
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


@dataclass
class BrightnessToolchain:
    """Stands in for TensorFlow and NNCF: bright pixels are foreground; INT8 is as wrong as its bias."""

    int8_bias: float = 0.0
    calls: list[str] = field(default_factory=list)
    calibrated_on: NDArray[np.uint8] | None = None

    def versions(self) -> dict[str, str]:
        return {"tensorflow": "2.19.1", "openvino": engine.version()}

    def train(self, _recipe: SavedModelRecipe, _training: Dataset, _validation: Dataset, output: Path) -> None:
        self.calls.append("train")
        (output / "model.keras").write_bytes(b"weights")
        done = {"parameters": 7, "epochs": 2, "best_epoch": 1, "validation_iou": 0.9}
        (output / "training.json").write_text(json.dumps(done))

    def export(self, trained: Path, output: Path, *, png_signature: bool) -> None:
        self.calls.append("export")
        assert (trained / "model.keras").is_file()
        (output / "variables").mkdir()
        (output / "variables/variables.index").write_bytes(b"index")
        (output / "saved_model.pb").write_bytes(b"png" if png_signature else b"plain")

    def predict(self, _saved_model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append("predict")
        masks: NDArray[np.float32] = to_floats(images).mean(-1, keepdims=True, dtype=np.float32)
        return masks

    def convert(self, _saved_model: Path, output: Path) -> None:
        self.calls.append("convert")
        save_brightness(output)

    def halve(self, _fp32: Path, output: Path) -> None:
        self.calls.append("halve")
        save_brightness(output)

    def quantize(self, _fp32: Path, images: NDArray[np.uint8], output: Path) -> None:
        self.calls.append("quantize")
        self.calibrated_on = images
        save_brightness(output, self.int8_bias)


@pytest.fixture(autouse=True)
def processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that can do INT8, whatever runs the tests."""
    monkeypatch.setattr(build_module, "instruction_sets", lambda: frozenset({"avx512_vnni"}))
    monkeypatch.setattr(build_module, "available_cores", lambda: 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty images of a bright disc on a dark ground."""
    root = tmp_path_factory.mktemp("cells")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(20):
        disc = np.hypot(rows - 112, columns - 60 - 5 * number) < 40
        image = np.where(disc, np.uint8(180), np.uint8(60))[..., None].repeat(3, 2)
        Image.fromarray(image).save(root / f"images/disc-{number:02d}.png")
        Image.fromarray(np.where(disc, np.uint8(255), np.uint8(0))).save(root / f"masks/disc-{number:02d}.png")
    return root


@pytest.fixture
def recipe(folder: Path) -> SavedModelRecipe:
    # bf16 needs AVX-512 of whatever runs the tests; its own test asks for it.
    return SavedModelRecipe(source=FolderSource(path=str(folder)), precisions=("fp32", "int8"))


def run_build(recipe: SavedModelRecipe, root: Path, toolchain: BrightnessToolchain | None = None) -> BuildResult:
    return build(recipe, toolchain or BrightnessToolchain(), root / "steps", root / "out", lambda _line: None)


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return sorted(tar.getnames())


def unpack(archive: Path, folder: Path) -> Manifest:
    with tarfile.open(archive) as tar:
        # Python before 3.11.4 extracts all members only as they say, links and all.
        for member in tar:
            if (content := tar.extractfile(member)) is not None:
                (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / member.name).write_bytes(content.read())
    return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)


def test_the_tensorflow_archive_is_laid_out_as_tensorflow_serving_looks_for_it(
    tmp_path: Path, recipe: SavedModelRecipe
) -> None:
    result = run_build(recipe, tmp_path)
    archive = tmp_path / "out/tensorflow/model.tar.gz"
    assert result.artifacts["tensorflow"].path == archive
    assert members(archive) == [
        "accuracy.json",
        "manifest.json",
        "model/1/saved_model.pb",
        "model/1/variables/variables.index",
    ]
    manifest = unpack(archive, tmp_path / "model")
    assert (manifest.precision, manifest.engine.name, manifest.engine.version) == ("fp32", "tensorflow", "2.19.1")
    assert manifest.inputs[0].shape == (-1, SIDE, SIDE, 3)


def test_an_openvino_archive_is_one_that_the_container_loads(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    run_build(recipe, tmp_path)
    archive = tmp_path / "out/openvino_fp32/model.tar.gz"
    assert members(archive) == ["accuracy.json", "manifest.json", "model.bin", "model.xml"]
    unpack(archive, tmp_path / "model")
    manifest = load_manifest(tmp_path / "model", "saved_model")
    model = engine.load(tmp_path / "model", manifest.precision, threads=1)
    masks = model.segment(np.full((1, SIDE, SIDE, 3), 0.5, np.float32))
    assert np.abs(masks - 0.5).max() < 1e-6


def test_the_container_reproduces_the_example_that_the_build_recorded_and_no_other_model_does(
    tmp_path: Path, recipe: SavedModelRecipe
) -> None:
    run_build(recipe, tmp_path)
    # TensorFlow Serving's image is AWS's, and checks nothing.
    assert unpack(tmp_path / "out/tensorflow/model.tar.gz", tmp_path / "tensorflow").example is None
    example = unpack(tmp_path / "out/openvino_int8/model.tar.gz", tmp_path / "model").example
    assert example is not None
    model = engine.load(tmp_path / "model", "int8", threads=1)
    check_example(example, SEGMENTATION, partial(respond, model))
    save_brightness(tmp_path / "tensorflow", bias=-0.3)
    other = engine.load(tmp_path / "tensorflow", "int8", threads=1)
    with pytest.raises(StartupError, match=r"does not answer .* shares 0\.0% of the foreground"):
        check_example(example, SEGMENTATION, partial(respond, other))


def test_a_manifest_says_what_the_artifact_is_and_needs(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    run_build(recipe, tmp_path)
    manifest = unpack(tmp_path / "out/openvino_int8/model.tar.gz", tmp_path / "model")
    assert (manifest.workload, manifest.precision, manifest.engine.name) == ("saved_model", "int8", "openvino")
    assert manifest.engine.version == engine.version()
    assert SavedModelRecipe.model_validate(manifest.recipe) == recipe
    assert (manifest.inputs[0].name, manifest.inputs[0].dtype) == ("image", "float32")
    assert manifest.inputs[0].shape == (1, SIDE, SIDE, 3)
    assert "avx512_vnni" in manifest.instruction_sets_any_of
    assert manifest.calibration is not None
    assert (manifest.calibration.samples, manifest.calibration.seed) == (14, recipe.seed)
    assert sorted(manifest.files) == ["accuracy.json", "model.bin", "model.xml"]
    accuracy = json.loads((tmp_path / "model/accuracy.json").read_text())
    assert accuracy["fp32"] == accuracy["artifact"] == {"iou": 1.0, "dice": 1.0, "images": 4}
    assert (accuracy["iou_ratio"], accuracy["min_iou_ratio"], accuracy["gate"]) == (1.0, 0.99, "99.9%")
    assert accuracy["dataset"].startswith("4 held-out images of ")


def test_bf16_is_built_where_it_can_be_scored_and_says_what_serves_it(
    tmp_path: Path, recipe: SavedModelRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = engine.load
    monkeypatch.setattr(
        engine,
        "load",
        lambda folder, precision, threads: load(folder, "fp32" if precision == "bf16" else precision, threads),
    )
    run_build(recipe.model_copy(update={"precisions": ("bf16",)}), tmp_path)
    assert not (tmp_path / "out/openvino_fp32").exists()
    manifest = unpack(tmp_path / "out/openvino_bf16/model.tar.gz", tmp_path / "model")
    assert manifest.instruction_sets_any_of == ("avx512_bf16", "amx_bf16")
    assert manifest.calibration is None


def test_a_precision_that_this_processor_cannot_do_stops_the_build_with_the_way_out(
    tmp_path: Path, recipe: SavedModelRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchain = BrightnessToolchain()
    monkeypatch.setattr(build_module, "instruction_sets", lambda: frozenset({"avx2"}))
    with pytest.raises(
        BuildError, match=r"INT8 can only be built where it runs: .*avx512_vnni.*; build on C6i or newer"
    ):
        run_build(recipe, tmp_path, toolchain)
    assert toolchain.calls == []

    def refuse(_folder: Path, _precision: str, _threads: int) -> None:
        raise StartupError("this processor computes in f32")

    monkeypatch.setattr(engine, "load", refuse)
    with pytest.raises(
        BuildError, match="bf16 can only be scored where it runs: this processor computes in f32; build"
    ):
        run_build(recipe.model_copy(update={"precisions": ("bf16",)}), tmp_path)


def test_an_artifact_below_the_gate_fails_the_build_with_its_name_and_numbers(
    tmp_path: Path, recipe: SavedModelRecipe
) -> None:
    toolchain = BrightnessToolchain(int8_bias=0.3)
    with pytest.raises(BuildError, match=r"accuracy gate failed: IoU is 1\.0000 in FP32 and 0\.\d+ in int8, the limit"):
        run_build(recipe, tmp_path, toolchain)
    assert not (tmp_path / "out/openvino_int8/model.tar.gz").exists()


def test_a_network_that_has_not_learned_fails_the_build(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    class Blind(BrightnessToolchain):
        def predict(self, _saved_model: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.zeros((*images.shape[:3], 1), np.float32)

    with pytest.raises(BuildError, match=r"IoU of the trained network is 0\.0000, the limit is 0\.5000 \(4 images\)"):
        run_build(recipe, tmp_path, Blind())


def test_calibration_images_are_training_images_and_never_scored_ones(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    toolchain = BrightnessToolchain()
    run_build(recipe.model_copy(update={"calibration_images": 8}), tmp_path, toolchain)
    assert toolchain.calibrated_on is not None
    assert len(toolchain.calibrated_on) == 8
    with zipfile.ZipFile(tmp_path / "out/samples.zip") as archive:
        archive.extractall(tmp_path / "samples")
    scored = [np.asarray(Image.open(path)) for path in (tmp_path / "samples/images").iterdir()]
    assert not any((image == sample).all() for image in toolchain.calibrated_on for sample in scored)


def test_a_repeated_build_runs_no_step_again(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    toolchain = BrightnessToolchain()
    first = run_build(recipe, tmp_path, toolchain)
    assert toolchain.calls == ["train", "export", "convert", "quantize", "predict"]
    toolchain.calls.clear()
    assert run_build(recipe, tmp_path, toolchain) == first
    assert toolchain.calls == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"gate": {"min_iou_ratio": 0.9}}, []),
        ({"precisions": ("int8",)}, []),
        ({"calibration_images": 8}, ["quantize"]),
        ({"png_signature": True}, ["export", "predict"]),
        ({"seed": 7}, ["train", "export", "convert", "quantize", "predict"]),
        ({"base_width": 8}, ["train", "export", "convert", "quantize", "predict"]),
    ],
)
def test_a_changed_setting_runs_the_steps_that_depend_on_it(
    tmp_path: Path, recipe: SavedModelRecipe, change: dict[str, Any], again: list[str]
) -> None:
    toolchain = BrightnessToolchain()
    run_build(recipe, tmp_path, toolchain)
    toolchain.calls.clear()
    changed = SavedModelRecipe.model_validate({**recipe.model_dump(), **change})
    run_build(changed, tmp_path, toolchain)
    assert toolchain.calls == again


def test_two_builds_of_a_recipe_give_the_same_bytes(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    one, two = run_build(recipe, tmp_path / "a"), run_build(recipe, tmp_path / "b")
    assert one.summary() == two.summary()
    assert one.picture.read_bytes() == two.picture.read_bytes()
    assert one.samples.read_bytes() == two.samples.read_bytes()
    assert one.reference.read_bytes() == two.reference.read_bytes()


def test_the_summary_has_all_that_a_deployment_and_a_reader_need(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    result = run_build(recipe, tmp_path)
    summary = json.loads(json.dumps(result.summary()))
    assert summary["workload"] == "saved_model"
    assert summary["images"] == {"train": 14, "validation": 2, "test": 4}
    assert summary["training"]["parameters"] == 7
    assert list(summary["accuracy"]) == ["tensorflow", "openvino_fp32", "openvino_int8"]
    assert summary["accuracy"]["tensorflow"]["gate"] == "reference"
    for name, artifact in result.artifacts.items():
        assert summary["artifacts"][name] == {
            "bytes": artifact.path.stat().st_size,
            "sha256": artifact.sha256,
            "manifest_sha256": artifact.manifest_sha256,
        }


def test_the_picture_shows_image_truth_and_predictions_side_by_side(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    with Image.open(run_build(recipe, tmp_path).picture) as sheet:
        pixels = np.asarray(sheet)
    # Four rows, one for each held-out image, of four pictures with gaps between them.
    assert pixels.shape == (6 + 4 * (224 + 6 + 16), 6 + 4 * (224 + 6), 3)
    truth, tensorflow, int8 = (pixels[22 : 22 + SIDE, left : left + SIDE] for left in (236, 466, 696))
    assert (truth == tensorflow).all()
    assert (truth == int8).all()
    assert set(np.unique(truth).tolist()) == {0, 255}


def test_the_samples_are_held_out_images_laid_out_as_a_source(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    run_build(recipe, tmp_path)
    with zipfile.ZipFile(tmp_path / "out/samples.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "samples")
    assert len([name for name in names if name.startswith("images/")]) == 4
    with pytest.raises(BuildError, match="has 4 images; a build needs at least 20"):
        find(FolderSource(path=str(tmp_path / "samples"))).load()


def test_the_reference_is_a_few_requests_beside_the_answers_of_tensorflow(
    tmp_path: Path, recipe: SavedModelRecipe
) -> None:
    result = run_build(recipe, tmp_path)
    assert result.reference.stat().st_size < 2_000_000
    samples = json.loads(gzip.decompress(result.reference.read_bytes()))["samples"]
    assert 1 <= len(samples) <= 4
    for sample in samples:
        (image,), (mask,) = sample["request"]["instances"], sample["answer"]["predictions"]
        assert np.shape(image) == (SIDE, SIDE, 3)
        np.testing.assert_allclose(np.mean(image, -1, keepdims=True), mask, atol=2e-5)


def test_the_png_signature_brings_the_script_that_uses_it(tmp_path: Path, recipe: SavedModelRecipe) -> None:
    run_build(recipe.model_copy(update={"png_signature": True}), tmp_path)
    unpack(tmp_path / "out/tensorflow/model.tar.gz", tmp_path / "model")
    assert (tmp_path / "model/model/1/saved_model.pb").read_bytes() == b"png"
    script = (tmp_path / "model/code/inference.py").read_text()
    namespace: dict[str, Any] = {"__name__": "inference"}
    exec(compile(script, "inference.py", "exec"), namespace)
    assert {"input_handler", "output_handler"} <= set(namespace)
    assert "handler" not in namespace, "the container would call it instead of the two"


def run(tmp_path: Path, recipe: str, *options: str) -> Result:
    app = typer.Typer()
    app.command()(command.main)
    folders = ["--cache", str(tmp_path / "steps"), "--output", str(tmp_path / "out")]
    return CliRunner().invoke(app, [*folders, *options], env={"RECIPE": recipe})


@pytest.fixture
def toolchain(monkeypatch: pytest.MonkeyPatch) -> BrightnessToolchain:
    """Takes the place of the module that imports TensorFlow."""
    made = BrightnessToolchain()
    stand_in = types.SimpleNamespace(TensorFlowToolchain=lambda _cores: made)
    monkeypatch.setitem(sys.modules, "model_build.saved_model.toolchain", stand_in)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    return made


@pytest.mark.usefixtures("toolchain")
def test_the_command_uploads_everything_and_the_summary_last(
    tmp_path: Path, s3: FakeS3, recipe: SavedModelRecipe
) -> None:
    result = run(tmp_path, recipe.model_dump_json(), "--bucket", "bucket", "--prefix", "saved_model/1")
    assert result.exit_code == 0, result.output
    archives = {f"{name}/model.tar.gz" for name in ("tensorflow", "openvino_fp32", "openvino_int8")}
    assert {key.removeprefix("bucket/saved_model/1/") for key in s3.objects} == archives | {
        "predictions.png",
        "samples.zip",
        "reference.json.gz",
        "summary.json",
    }
    assert list(s3.objects)[-1] == "bucket/saved_model/1/summary.json"
    assert json.loads((tmp_path / "out/summary.json").read_text())["workload"] == "saved_model"
    assert all(word in result.output for word in ("openvino_int8", "reference", "99.9%", "predictions.png"))


def test_the_command_leaves_the_gates_reason_and_no_summary(
    tmp_path: Path, s3: FakeS3, recipe: SavedModelRecipe, toolchain: BrightnessToolchain
) -> None:
    toolchain.int8_bias = 0.3
    result = run(tmp_path, recipe.model_dump_json(), "--bucket", "bucket", "--prefix", "p")
    assert result.exit_code == 1
    assert "accuracy gate failed" in json.loads(s3.objects["bucket/p/failure.json"])["message"]
    assert list(s3.objects) == ["bucket/p/failure.json"]


@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ('{"source": {"kind": "folder", "path": "/none"}}', "source.path: '/none' is not a folder"),
        ('{"colour": "red"}', "the recipe is not valid: colour"),
        ("{", "the recipe is not valid: recipe"),
        ("@/none/recipe.json", "No such file"),
    ],
)
def test_the_command_leaves_the_reason_of_a_failure_and_no_summary(
    tmp_path: Path, s3: FakeS3, recipe: str, message: str
) -> None:
    result = run(tmp_path, recipe, "--bucket", "bucket", "--prefix", "p")
    assert result.exit_code == 1
    assert message in json.loads(s3.objects["bucket/p/failure.json"])["message"]
    assert list(s3.objects) == ["bucket/p/failure.json"]


def test_the_command_wants_bucket_and_prefix_together(tmp_path: Path) -> None:
    result = run(tmp_path, "{}", "--bucket", "bucket")
    assert result.exit_code == 1
    assert "--bucket and --prefix go together" in result.output
