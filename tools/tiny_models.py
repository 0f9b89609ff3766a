"""Tiny archives for every workload, built instantly and served by the real images' code."""

import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from containers.encoder.engines import vnni
from containers.encoder.model_files import TOKENIZER_FILE
from containers.neuron_encoder.artifact import INPUTS, NEURON_FILE, Bucket, NeuronArtifact
from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME, OUTPUT_NAME
from containers.serving.contract import MANIFEST_FILE
from containers.serving.cpu import instruction_sets
from containers.serving.manifest import EngineVersion, Manifest, sha256
from containers.tabular.features import MODEL_FILE as CHURN_FILE
from model_build.tabular.booster import Job, fit
from model_build.tabular.data import fetch, parse
from model_build.tabular.recipe import GeneratedSource, TabularRecipe
from tools.vnni_models import TINY, FloatBert, compiled_library

WORDS = tuple(f"w{index}" for index in range(40))
_VOCABULARY = {word: index for index, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", *WORDS))}
_MODEL_FILE = "model.xml"
_OPENVINO = EngineVersion(name="openvino", version=metadata.version("openvino"))


def save_encoder(folder: Path) -> None:
    """Save an encoder archive with random weights, for the engine vnni if the processor can run it."""
    if "avx512_vnni" in instruction_sets():
        shape = replace(TINY, words=len(_VOCABULARY))
        FloatBert.random(shape).save(folder, compiled_library(Path(tempfile.mkdtemp(prefix="encoder-"))))
        engine = EngineVersion(name="vnni", version=vnni.version())
    else:
        _save_encoder(folder)
        engine = _OPENVINO
    _save_tokenizer(folder)
    recipe: dict[str, object] = {"max_seq_length": 64, "doc_stride": 16, "max_query_length": 16}
    _save_manifest(folder, "encoder", "int8", recipe, engine)


def save_neuron_encoder(folder: Path) -> None:
    """Save a neuron_encoder archive for virtual cores, with the same encoder."""
    _save_encoder(folder)
    _save_tokenizer(folder)
    buckets = tuple(Bucket(length=length, batch=batch, file=_MODEL_FILE) for length in (32, 64) for batch in (1, 8))
    traced = NeuronArtifact(target="cpu", sdk={}, inputs=INPUTS, buckets=buckets, cores_per_copy=1, device_bytes=0)
    (folder / NEURON_FILE).write_bytes(traced.to_json())
    _save_manifest(folder, "neuron_encoder", "fp32", {"doc_stride": 16, "max_query_length": 16})


def save_unet(folder: Path) -> None:
    """Save a saved_model archive whose probability is each pixel's brightness."""
    folder.mkdir(parents=True)
    image = ops.parameter([1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS], np.float32, INPUT_NAME)
    image.output(0).get_tensor().set_names({INPUT_NAME})
    brightness = ops.reduce_mean(image, ops.constant(np.array([3])), keep_dims=True)
    brightness.output(0).get_tensor().set_names({OUTPUT_NAME})
    ov.save_model(ov.Model([brightness], [image], "brightness"), folder / _MODEL_FILE, compress_to_fp16=False)
    _save_manifest(folder, "saved_model", "fp32", {})


def churn_models(states: tuple[str, ...]) -> dict[str, bytes]:
    """Return one model per state, as XGBoost saves it, trained on generated customers."""
    table = parse(fetch(GeneratedSource(customers=1020)))
    recipe = TabularRecipe(min_child_weight=0.1)
    by_state = {state: table.states == state for state in states}
    return {state: fit(Job(table.features[rows], table.labels[rows], recipe)) for state, rows in by_state.items()}


def save_churn(folder: Path, model: bytes) -> None:
    """Save an extracted archive of tabular."""
    folder.mkdir(parents=True)
    (folder / CHURN_FILE).write_bytes(model)


def _save_encoder(folder: Path) -> None:
    source = np.random.default_rng(7)
    ids, mask, types = (ops.parameter([-1, -1], np.int64, name) for name in INPUTS)
    for parameter, name in zip((ids, mask, types), INPUTS, strict=True):
        parameter.output(0).get_tensor().set_names({name})
    zero = ops.constant(np.int64(0))
    words, segments = (
        ops.gather(ops.constant(source.normal(size=(count, 2)).astype(np.float32)), which, zero)
        for count, which in ((len(_VOCABULARY), ids), (2, types))
    )
    shown = ops.unsqueeze(ops.convert(mask, "f32"), ops.constant(np.int64(2)))
    logits = ops.split(ops.multiply(ops.add(words, segments), shown), 2, 2)
    outputs = [ops.squeeze(logits.output(index), ops.constant(np.int64(2))) for index in range(2)]
    folder.mkdir(parents=True)
    ov.save_model(ov.Model(outputs, [ids, mask, types], "tiny"), folder / _MODEL_FILE, compress_to_fp16=False)


def _save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / TOKENIZER_FILE))


def _save_manifest(
    folder: Path, workload: str, precision: str, recipe: dict[str, object], engine: EngineVersion = _OPENVINO
) -> None:
    manifest = Manifest(
        schema_version=1,
        workload=workload,
        precision=precision,
        recipe=recipe,
        source="test",
        engine=engine,
        built_with={},
        inputs=(),
        instruction_sets_any_of=(),
        calibration=None,
        accuracy=None,
        files={path.name: sha256(path) for path in sorted(folder.iterdir())},
    )
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
