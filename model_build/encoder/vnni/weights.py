"""Write the weights file, converting transformers' names and floats into the engine's names and bytes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from containers.encoder.engines.vnni import WEIGHTS_FILE, EncoderShape

_LEVELS = 127
_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
    "after_attention": "attention.output.LayerNorm",
    "after_feed_forward": "output.LayerNorm",
}
"""Module in transformers for each part of a layer."""


def save(state: Mapping[str, npt.NDArray[np.float32]], shape: EncoderShape, output: Path) -> None:
    """Write the weights of a `BertForQuestionAnswering` into a folder.

    state: float32 arrays by transformers' names.
    """
    save_file(_tensors(state, shape.layers), output / WEIGHTS_FILE, metadata=shape.to_metadata())


def quantize_rows(values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Quantize each row to signed bytes with one scale: value = byte * scale, within half a scale.

    values: float32 of shape (rows, columns).
    Returns int8 of the same shape, and scales as float32 of shape (rows,).
    """
    largest = np.abs(values).max(axis=1)
    scale = (np.maximum(largest, np.finfo(np.float32).tiny * _LEVELS) / _LEVELS).astype(np.float32)
    return np.rint(values / scale[:, None]).astype(np.int8), scale


def _tensors(
    state: Mapping[str, npt.NDArray[np.float32]], layers: int
) -> dict[str, npt.NDArray[np.int8] | npt.NDArray[np.float32]]:
    words, scale = quantize_rows(state["bert.embeddings.word_embeddings.weight"])
    tensors: dict[str, npt.NDArray[np.int8] | npt.NDArray[np.float32]] = {
        "words.weight": words,
        "words.scale": scale,
        "positions": state["bert.embeddings.position_embeddings.weight"],
        "types": state["bert.embeddings.token_type_embeddings.weight"],
        "embedded.gamma": state["bert.embeddings.LayerNorm.weight"],
        "embedded.beta": state["bert.embeddings.LayerNorm.bias"],
        "head.weight": state["qa_outputs.weight"],
        "head.bias": state["qa_outputs.bias"],
    }
    for layer in range(layers):
        for ours, theirs in _NAMES.items():
            weight, bias = (state[f"bert.encoder.layer.{layer}.{theirs}.{part}"] for part in ("weight", "bias"))
            name = f"layers.{layer}.{ours}"
            if weight.ndim == 1:
                tensors |= {f"{name}.gamma": weight, f"{name}.beta": bias}
            else:
                quantized, scale = quantize_rows(weight)
                tensors |= {f"{name}.weight": quantized, f"{name}.scale": scale, f"{name}.bias": bias}
    return tensors
