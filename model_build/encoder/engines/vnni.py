"""The project's own INT8 encoder for AVX-512 VNNI; its FP32 model is OpenVINO's."""

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import cast

import torch
from transformers import BertConfig

from containers.encoder.engines.vnni import LIBRARY_FILE, EncoderShape
from containers.serving.question_answering.windows import EncoderBatch
from model_build.encoder.engines.openvino import OpenVinoInt8
from model_build.encoder.vnni.library import compile_encoder
from model_build.encoder.vnni.weights import save
from model_build.errors import BuildError

_MULTIPLE = 32
_LARGEST_HEAD = 128


class VnniInt8:
    """Builder of INT8 weights with a scale per output; the encoder quantizes activations at run time."""

    name = "vnni"
    fp32_engine = "openvino"
    calibrates = False
    attention = "sdpa"
    int8_instruction_sets = ("avx512_vnni",)

    def export(self, model: torch.nn.Module, output: Path) -> None:
        """Write OpenVINO's FP32 model."""
        OpenVinoInt8().export(model, output)

    def quantize(self, model: torch.nn.Module, fp32: Path, calibration: Sequence[EncoderBatch], output: Path) -> None:
        """Quantize the weights and compile the encoder, without calibration.

        Raises BuildError for a model that the encoder cannot run.
        """
        del fp32, calibration  # The protocol passes them; only the weights are quantized ahead.
        config = cast(BertConfig, model.config)
        _check(config)
        shape = EncoderShape(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            intermediate=config.intermediate_size,
            words=config.vocab_size,
            positions=config.max_position_embeddings,
            types=config.type_vocab_size,
            epsilon=config.layer_norm_eps,
        )
        for problem in shape.problems():
            raise BuildError(f"the engine vnni cannot run this model: {problem}; set engine: openvino")
        save({name: value.numpy() for name, value in model.state_dict().items()}, shape, output)
        compile_encoder(output / LIBRARY_FILE)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that affect the result."""
        return {name: metadata.version(name) for name in ("ziglang", "openvino", "torch", "transformers")}


def _check(config: BertConfig) -> None:
    if problems := "; ".join(_problems(config)):
        raise BuildError(f"the engine vnni cannot run this model: {problems}; set engine: openvino")


def _problems(config: BertConfig) -> Iterator[str]:
    for name, wanted in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if (given := getattr(config, name)) != wanted:
            yield f"{name} is {given!r}, not {wanted!r}"
    head = config.hidden_size // config.num_attention_heads
    for name, size in (("intermediate_size", config.intermediate_size), ("hidden_size per attention head", head)):
        if size % _MULTIPLE:
            yield f"{name} is {size}, not a multiple of {_MULTIPLE}"
    if head > _LARGEST_HEAD:
        yield f"hidden_size per attention head is {head}, more than {_LARGEST_HEAD}"


ENGINE = VnniInt8()
