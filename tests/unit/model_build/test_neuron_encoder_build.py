"""AWS's tracing libraries are asked what they document, their placeholders are refused, and buckets are served."""

import inspect
import json
import tarfile
from collections.abc import Callable
from email.message import Message
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from containers.neuron_encoder import artifact
from containers.neuron_encoder.artifact import INPUTS, load_artifact
from containers.serving.manifest import load_manifest
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch
from model_build.command_line import read_recipe
from model_build.encoder.recipe import ProjectData, RandomSource
from model_build.errors import BuildError
from model_build.neuron_encoder.build import BuildResult, Source, build
from model_build.neuron_encoder.parity import Infer, check_parity, compare, probe
from model_build.neuron_encoder.recipe import INF1_IS_LEGACY, NeuronEncoderRecipe, Target
from model_build.neuron_encoder.sdk import INDEX, PINS, Sdk, load_sdk
from model_build.neuron_encoder.signatures import DOCUMENTED, TORCH_NEURON_TRACE_KEYWORDS, TORCH_NEURONX, check_call
from model_build.neuron_encoder.toolchains import NeuronToolchain
from model_build.neuron_encoder.trace import trace_neuron, trace_neuronx

FOLDER = Path(__file__).parents[3] / "model_build/neuron_encoder"
VOCABULARY = 2000


class FakeNeuronX:
    """`torch_neuronx` with its documented signatures, which takes down what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def trace(
        self,
        func: Any,
        example_inputs: Any,
        *_: Any,
        input_output_aliases: Any = {},  # noqa: ARG002, B006 - torch_neuronx's name and default
        compiler_workdir: Any = None,  # noqa: ARG002 - torch_neuronx's name
        compiler_args: Any = None,
        partitioner_config: Any = None,  # noqa: ARG002 - torch_neuronx's name
        inline_weights_to_neff: bool = True,  # noqa: ARG002 - torch_neuronx's name
        cpu_backend: bool = False,
    ) -> Any:
        given = {"compiler_args": compiler_args} | ({"cpu_backend": True} if cpu_backend else {})
        self.calls.append(("trace", (func, example_inputs, *_), given))
        return SimpleNamespace(of=func)

    def dynamic_batch(self, neuron_script: Any) -> Any:
        self.calls.append(("dynamic_batch", (neuron_script,), {}))
        return neuron_script

    def async_load(self, trace: Any, enable_async_load: bool = True) -> None:  # noqa: ARG002 - torch_neuronx's name
        self.calls.append(("async_load", (trace,), {}))


class FakeNeuron:
    """`torch_neuron` with its documented signature."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def trace(self, model: Any, example_inputs: Any, **kwargs: Any) -> Any:
        self.calls.append(("trace", (model, example_inputs), kwargs))
        return SimpleNamespace(of=model)


class FakeTorch:
    """As much of PyTorch as tracing touches; a saved module is its text, and a loaded one answers as `answers`."""

    long = "int64"

    def __init__(self, answers: Callable[..., Any] | None = None) -> None:
        self.jit = SimpleNamespace(save=self._save, load=lambda _path: answers)

    @staticmethod
    def ones(rows: int, length: int, *, dtype: str) -> tuple[int, int, str]:
        return (rows, length, dtype)

    @staticmethod
    def from_numpy(array: Any) -> Any:
        return array

    @staticmethod
    def inference_mode() -> Any:
        return _Nothing()

    @staticmethod
    def _save(_traced: Any, path: str) -> None:
        Path(path).write_text("traced")


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class FakeTensor:
    def __init__(self, array: FloatArray) -> None:
        self._array = array

    def float(self) -> "FakeTensor":
        return self

    def numpy(self) -> FloatArray:
        return self._array


def model(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> tuple[FakeTensor, FakeTensor]:
    del attention_mask
    logits = (input_ids + 10 * token_type_ids).astype(np.float32)
    return FakeTensor(logits), FakeTensor(-logits)


def without_segments(input_ids: Any, attention_mask: Any, token_type_ids: Any) -> tuple[FakeTensor, FakeTensor]:
    return model(input_ids, attention_mask, np.zeros_like(token_type_ids))


def fetch(_source: Any, to: Path) -> None:
    (to / "config.json").write_text(json.dumps({"vocab_size": VOCABULARY}))
    (to / "tokenizer.json").write_text("{}")


def source() -> Source:
    return Source(lambda _source: "a model", fetch, lambda _folder, _attention: model)


def run(
    tmp_path: Path,
    recipe: NeuronEncoderRecipe,
    module: Any,
    *,
    on_device: bool = False,
    answers: Callable[..., Any] = model,
    log: Callable[[str], object] = lambda _line: None,
    models: Callable[[], Source] = source,
) -> BuildResult:
    """Build a recipe, with random weights unless it has questions of its own."""
    if isinstance(recipe.data, ProjectData):
        recipe = recipe.model_copy(update={"source": RandomSource()})
    devices = tmp_path / "dev"
    devices.mkdir(exist_ok=True)
    if on_device:
        (devices / "neuron0").touch()
    pins = PINS[recipe.target]
    sdk = Sdk(module, pins.framework, dict(pins.packages))
    versions = {"torch": "2.9.1", "transformers": "4.57.6"}
    kit = NeuronToolchain(recipe, sdk, FakeTorch(answers), devices)
    kit.versions = lambda: {**sdk.versions, **versions}  # type: ignore[method-assign]  # PyTorch is not installed here
    return build(recipe, tmp_path / "steps", tmp_path / "out", log, tools=lambda _recipe: kit, source=models)


def unpacked(tmp_path: Path, target: str) -> Path:
    folder = tmp_path / "unpacked"
    with tarfile.open(tmp_path / "out" / target / "model.tar.gz") as tar:
        tar.extractall(folder)
    return folder


@pytest.mark.parametrize(("target", "fake"), [("inf2", FakeNeuronX), ("inf1", FakeNeuron)])
def test_the_fakes_have_the_documented_signatures(target: Any, fake: type) -> None:
    for name, documented in DOCUMENTED[target].items():
        own = list(inspect.signature(getattr(fake, name)).parameters.values())[1:]
        assert [(p.name, p.kind, p.default) for p in own] == [
            (p.name, p.kind, p.default) for p in documented.parameters.values()
        ]


def test_inferentia2_is_traced_bucket_by_bucket_on_a_machine_without_one(tmp_path: Path) -> None:
    sdk = FakeNeuronX()
    recipe = NeuronEncoderRecipe(lengths=(64, 128), batches=(1, 4), doc_stride=32)
    result = run(tmp_path, recipe, sdk)
    assert [name for name, _, _ in sdk.calls] == ["trace"] * 4
    assert [args[1] for _, args, _ in sdk.calls] == [
        ((batch, length, "int64"),) * len(INPUTS) for length in (64, 128) for batch in (1, 4)
    ]
    for name, args, kwargs in sdk.calls:
        check_call("inf2", name, args, kwargs)
        assert kwargs["cpu_backend"] is True
        assert kwargs["compiler_args"][-2:] == ["--target", "inf2"]
    assert [(b.length, b.batch, b.file) for b in result.traced.buckets] == [
        (64, 1, "model_64x1.pt"),
        (64, 4, "model_64x4.pt"),
        (128, 1, "model_128x1.pt"),
        (128, 4, "model_128x4.pt"),
    ]


def test_dynamic_batches_and_loading_in_the_background_are_asked_for_before_a_trace_is_saved(tmp_path: Path) -> None:
    sdk = FakeNeuronX()
    recipe = NeuronEncoderRecipe(lengths=(64, 128), batches=(1, 8), doc_stride=32, dynamic_batch=True, async_load=True)
    result = run(tmp_path, recipe, sdk)
    assert [name for name, _, _ in sdk.calls] == ["trace", "dynamic_batch", "async_load"] * 2
    assert [args[1][0] for name, args, _ in sdk.calls if name == "trace"] == [(8, 64, "int64"), (8, 128, "int64")]
    for name, args, kwargs in sdk.calls:
        check_call("inf2", name, args, kwargs)
    assert {bucket.file for bucket in result.traced.buckets} == {"model_64.pt", "model_128.pt"}
    assert len(result.traced.buckets) == 4


def test_inferentia_is_traced_with_its_own_keywords_and_a_warning(tmp_path: Path) -> None:
    sdk, lines = FakeNeuron(), list[str]()
    recipe = NeuronEncoderRecipe(target="inf1", lengths=(128,), batches=(1, 4), dynamic_batch=True, cores_per_copy=4,
                              doc_stride=32)  # fmt: skip
    result = run(tmp_path, recipe, sdk, log=lines.append)
    ((name, args, kwargs),) = sdk.calls
    check_call("inf1", name, args, kwargs)
    assert kwargs == {"compiler_args": ["--neuroncore-pipeline-cores", "4"], "dynamic_batch_size": True}
    assert result.traced.cores_per_copy == 4
    assert "legacy" in lines[0]
    assert result.summary()["warnings"] == [INF1_IS_LEGACY]


def test_on_a_neuron_device_the_trace_is_not_told_to_use_the_processor() -> None:
    sdk = FakeNeuronX()
    trace_neuronx(
        sdk, model, ((1, 64),), compiler_args=[], on_device=True, dynamic_batch=False, async_load=False
    )  # fmt: skip
    assert sdk.calls[0][2] == {"compiler_args": []}


def test_neuron_cc_gets_no_argument_where_none_is_set() -> None:
    sdk = FakeNeuron()
    trace_neuron(sdk, model, ((1, 64),), compiler_args=[], dynamic_batch=False)
    assert sdk.calls[0][2] == {}


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "message"),
    [
        ("inf2", (1, 2), {"compiler_options": []}, "compiler_options"),
        ("inf2", (1, 2, ["--target"]), {}, "ignores 1 extra positional"),
        ("inf2", (1,), {}, "example_inputs"),
        ("inf1", (1, 2), {"cpu_backend": True}, "documents no keyword 'cpu_backend'"),
    ],
)
def test_a_call_that_is_not_documented_is_found(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        check_call(target, "trace", args, kwargs)


def test_the_documented_keywords_of_inferentia2_are_keyword_only() -> None:
    kinds = {name: p.kind for name, p in TORCH_NEURONX["trace"].parameters.items()}
    assert {name for name, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY} == {
        "input_output_aliases", "compiler_workdir", "compiler_args", "partitioner_config", "inline_weights_to_neff",
        "cpu_backend",
    }  # fmt: skip
    assert {"compiler_args", "dynamic_batch_size"} <= TORCH_NEURON_TRACE_KEYWORDS


def test_the_archive_is_what_the_server_reads(tmp_path: Path) -> None:
    result = run(tmp_path, NeuronEncoderRecipe(lengths=(128,), batches=(1,), doc_stride=32), FakeNeuronX())
    folder = unpacked(tmp_path, "inf2")
    manifest, traced = load_manifest(folder, "neuron_encoder"), load_artifact(folder)
    assert traced == result.traced
    assert traced.sdk["neuronx-cc"] == PINS["inf2"].packages["neuronx-cc"]
    assert traced.device_bytes == len("traced")
    assert (manifest.engine.name, manifest.engine.version) == ("torch-neuronx", PINS["inf2"].packages["torch-neuronx"])
    assert manifest.precision == "bf16"
    assert {"doc_stride", "max_query_length"} <= set(manifest.recipe)


def test_parity_is_recorded_as_not_compared_where_no_device_is(tmp_path: Path) -> None:
    result = run(tmp_path, NeuronEncoderRecipe(lengths=(128,), batches=(1,), doc_stride=32), FakeNeuronX())
    recorded = json.loads((unpacked(tmp_path, "inf2") / "parity.json").read_text())
    assert recorded["checked"] is False
    assert "run only on its NeuronCores" in recorded["note"]
    assert result.summary()["parity"]["largest"] is None


def test_parity_is_compared_in_every_bucket_on_a_device(tmp_path: Path) -> None:
    recipe = NeuronEncoderRecipe(lengths=(64, 128), batches=(1, 2), doc_stride=32)
    result = run(tmp_path, recipe, FakeNeuronX(), on_device=True)
    assert result.parity.checked
    assert result.parity.differences == {"64x1": 0.0, "64x2": 0.0, "128x1": 0.0, "128x2": 0.0}


def test_a_trace_that_drops_the_segment_ids_is_no_artifact(tmp_path: Path) -> None:
    recipe = NeuronEncoderRecipe(lengths=(128,), batches=(1,), doc_stride=32)
    with pytest.raises(BuildError, match=r"more than tolerance 0\.25 in the buckets 128x1: 10"):
        run(tmp_path, recipe, FakeNeuronX(), on_device=True, answers=without_segments)
    assert not (tmp_path / "out/inf2/model.tar.gz").exists()


def test_an_interrupted_build_goes_on_at_the_bucket_that_it_was_at(tmp_path: Path) -> None:
    recipe = NeuronEncoderRecipe(lengths=(64, 128), batches=(1,), doc_stride=32)
    first = FakeNeuronX()
    run(tmp_path, recipe, first)
    second = FakeNeuronX()
    run(tmp_path, NeuronEncoderRecipe(lengths=(64, 128, 256), batches=(1,), doc_stride=32), second)
    assert [args[1][0] for _, args, _ in second.calls] == [(1, 256, "int64")]


def infer(offset: float, padding: float = 0.0) -> Infer:
    def answer(batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        logits = batch.input_ids.astype(np.float32) + offset + (1 - batch.attention_mask) * padding
        return logits.astype(np.float32), logits.astype(np.float32)

    return answer


def test_padding_does_not_count_and_what_is_not_a_number_is_within_no_tolerance() -> None:
    assert compare(probe(64, 2, VOCABULARY, 0), infer(0.0), infer(0.0, padding=7.0)) == 0.0
    with pytest.raises(BuildError, match="nan"):
        check_parity(((64, 1),), VOCABULARY, 0, 0.1, infer(0.0), infer(float("nan")))


def test_the_rows_that_are_compared_have_two_segments_padding_and_known_tokens() -> None:
    batch = probe(128, 8, VOCABULARY, 1)
    assert (batch.input_ids[batch.attention_mask == 1] >= 999).all()
    assert (batch.input_ids < VOCABULARY).all()
    assert batch.token_type_ids.any(axis=1).all()
    assert (batch.attention_mask == 0).any()
    assert np.array_equal(batch.input_ids, probe(128, 8, VOCABULARY, 1).input_ids)


STUB = """Metadata-Version: 2.1
Name: {name}
Version: {version}
Maintainer: Amazon Web Services, Inc.
Description-Content-Type: text/markdown

WRONG PACKAGE. Please install the package from Neuron Repository - pip.repos.neuron.amazonaws.com
"""
"""The metadata of AWS's placeholders on PyPI, torch-neuronx 1.0 and neuronx-cc 1.0.post1."""


def distribution(tmp_path: Path, name: str, version: str, *, stub: bool = False) -> Any:
    folder = tmp_path / f"{name}.dist-info"
    folder.mkdir(exist_ok=True)
    text = STUB if stub else "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nFor PyTorch.\n"
    (folder / "METADATA").write_text(text.format(name=name, version=version))
    return metadata.PathDistribution(folder).metadata


def stub_import(_name: str) -> Any:
    raise ImportError(
        "WRONG PACKAGE. Please install the package from Neuron Repository - pip.repos.neuron.amazonaws.com"
    )


@pytest.mark.parametrize("stub", ["torch-neuronx", "neuronx-cc"])
def test_a_placeholder_from_pypi_is_refused_with_the_command_that_installs_the_real_one(
    tmp_path: Path, stub: str
) -> None:
    def find(package: str) -> Any:
        version = "1.0" if package == stub else PINS["inf2"].packages[package]
        return distribution(tmp_path, package, version, stub=package == stub)

    with pytest.raises(BuildError) as raised:
        load_sdk("inf2", load=stub_import, find=find)
    text = str(raised.value)
    assert f"{stub} 1.0 is the placeholder of that name on PyPI" in text
    assert f"pip uninstall {stub}, then pip install --extra-index-url {INDEX} torch-neuronx==2.9" in text


def test_a_placeholder_that_shows_itself_only_when_imported_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="torch_neuron is a placeholder from PyPI"):
        load_sdk("inf1", load=stub_import, find=lambda package: distribution(tmp_path, package, "1.0"))


def test_a_missing_sdk_is_named_with_its_index() -> None:
    def find(package: str) -> Any:
        raise metadata.PackageNotFoundError(package)

    with pytest.raises(BuildError, match=f"torch-neuronx is not installed: pip install --extra-index-url {INDEX}"):
        load_sdk("inf2", find=find)


def test_a_broken_sdk_is_an_error_with_its_own_words(tmp_path: Path) -> None:
    def load(_name: str) -> Any:
        raise ImportError("libnrt.so.1 is missing")

    with pytest.raises(BuildError, match=r"cannot be imported: libnrt\.so\.1 is missing"):
        load_sdk("inf2", load=load, find=lambda package: distribution(tmp_path, package, "2.9.0"))


def test_versions_come_without_their_build_labels(tmp_path: Path) -> None:
    sdk = load_sdk(
        "inf2",
        load=lambda name: SimpleNamespace(name=name),
        find=lambda package: distribution(tmp_path, package, "2.9.0.2.12.22436+0f1dac25"),
    )
    assert (sdk.framework, sdk.version, sdk.module.name) == ("torch-neuronx", "2.9.0.2.12.22436", "torch_neuronx")
    assert isinstance(distribution(tmp_path, "real", "1"), Message)


def test_the_requirements_pin_what_the_advice_names_and_take_it_from_awss_index() -> None:
    for target, pins in PINS.items():
        text = (FOLDER / f"requirements-{target}.txt").read_text()
        assert f"--extra-index-url {INDEX}\n" in text
        for package, version in pins.packages.items():
            assert f"\n{package}=={version}\n" in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lengths": (128, 64)}, "lengths are 128, 64: list each value once, in ascending order"),
        ({"batches": (1, 1)}, "batches are 1, 1"),
        ({"lengths": (128,)}, "doc_stride is 64: it must be less than 61"),
        ({"lengths": tuple(range(160, 512, 32)), "batches": (1, 2, 4)}, "make 33 buckets: an archive holds at most 32"),
        ({"cores_per_copy": 2}, "cores_per_copy is 2 with target 'inf2'"),
        ({"target": "inf1", "async_load": True}, "only torch-neuronx, for inf2, supports it"),
        ({"target": "cpu", "dynamic_batch": True}, "accepts any batch"),
        ({"target": "cpu", "compiler_args": ("-O1",)}, "no Neuron compiler runs for it"),
        ({"compiler_args": ("--target=trn1",)}, "the build sets that option; set target"),
        ({"target": "inf1", "compiler_args": ("--neuroncore-pipeline-cores", "2")}, "set cores_per_copy"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_what_would(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        NeuronEncoderRecipe(**settings)


def test_the_build_has_the_targets_that_the_server_has() -> None:
    assert set(get_args(Target)) == set(get_args(artifact.Target))


def test_a_recipe_file_that_is_missing_is_named() -> None:
    with pytest.raises(BuildError, match=r"'nowhere\.json' cannot be read: No such file"):
        read_recipe(NeuronEncoderRecipe, "@nowhere.json")
