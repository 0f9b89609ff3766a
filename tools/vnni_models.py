"""Small BERT models with random weights for the engine vnni, and their reference results in plain floats."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save_file

from containers.encoder.engines.vnni import LIBRARY_FILE, WEIGHTS_FILE, EncoderShape
from containers.serving.cpu import instruction_sets
from model_build.encoder.vnni.library import compile_encoder
from model_build.encoder.vnni.weights import save
from tools.sanitizers.encoder import portable_library

Array = npt.NDArray[np.float32]
TINY = EncoderShape(
    layers=3, hidden=64, heads=2, intermediate=160, words=97, positions=80, types=2, epsilon=1e-12
)  # fmt: skip
BASE = EncoderShape(
    layers=2, hidden=768, heads=12, intermediate=3072, words=1000, positions=512, types=2, epsilon=1e-12
)  # fmt: skip
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, slots=True)
class FloatBert:
    """Reference `BertForQuestionAnswering` in double precision.

    state: weights by transformers' names.
    """

    shape: EncoderShape
    state: dict[str, Array] = field(repr=False)

    @classmethod
    def random(cls, shape: EncoderShape, seed: int = 0, spread: float = 0.08) -> "FloatBert":
        """Create a model with normally distributed weights of standard deviation `spread`."""
        source = np.random.default_rng(seed)
        state: dict[str, Array] = {}

        def weights(name: str, *sizes: int) -> None:
            state[name] = source.normal(scale=spread, size=sizes).astype(np.float32)

        def linear(name: str, outputs: int, inputs: int) -> None:
            weights(f"{name}.weight", outputs, inputs)
            weights(f"{name}.bias", outputs)

        def normalization(name: str) -> None:
            state[f"{name}.weight"] = source.uniform(0.5, 1.5, shape.hidden).astype(np.float32)
            weights(f"{name}.bias", shape.hidden)

        for name, count in (("word", shape.words), ("position", shape.positions), ("token_type", shape.types)):
            weights(f"bert.embeddings.{name}_embeddings.weight", count, shape.hidden)
        normalization("bert.embeddings.LayerNorm")
        for layer in range(shape.layers):
            prefix = f"bert.encoder.layer.{layer}"
            for name in ("query", "key", "value"):
                linear(f"{prefix}.attention.self.{name}", shape.hidden, shape.hidden)
            linear(f"{prefix}.attention.output.dense", shape.hidden, shape.hidden)
            normalization(f"{prefix}.attention.output.LayerNorm")
            linear(f"{prefix}.intermediate.dense", shape.intermediate, shape.hidden)
            linear(f"{prefix}.output.dense", shape.hidden, shape.intermediate)
            normalization(f"{prefix}.output.LayerNorm")
        linear("qa_outputs", 2, shape.hidden)
        return cls(shape, state)

    def logits(self, ids: npt.NDArray[np.int64], types: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """Return the start and end logits of one sequence."""
        shape, size = self.shape, self.shape.hidden // self.shape.heads
        x = self._normalized(
            self.state["bert.embeddings.word_embeddings.weight"][ids].astype(np.float64)
            + self.state["bert.embeddings.position_embeddings.weight"][: len(ids)]
            + self.state["bert.embeddings.token_type_embeddings.weight"][types],
            "bert.embeddings.LayerNorm",
        )
        for layer in range(shape.layers):
            prefix = f"bert.encoder.layer.{layer}"
            query, key, value = (
                self._linear(x, f"{prefix}.attention.self.{name}").reshape(-1, shape.heads, size).swapaxes(0, 1)
                for name in ("query", "key", "value")
            )
            scores = query @ key.swapaxes(1, 2) / math.sqrt(size)
            shares = np.exp(scores - scores.max(axis=2, keepdims=True))
            attended = (shares / shares.sum(axis=2, keepdims=True) @ value).swapaxes(0, 1).reshape(len(x), -1)
            x = self._normalized(
                x + self._linear(attended, f"{prefix}.attention.output.dense"), f"{prefix}.attention.output.LayerNorm"
            )
            inner = self._linear(x, f"{prefix}.intermediate.dense")
            inner = inner * (1 + _erf(inner / math.sqrt(2))) / 2
            x = self._normalized(x + self._linear(inner, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
        start, end = self._linear(x, "qa_outputs").T.astype(np.float32)
        return start, end

    def save(self, folder: Path, library: Path) -> Path:
        """Save the quantized model in the same form as the build."""
        folder.mkdir(parents=True, exist_ok=True)
        save(self.state, self.shape, folder)
        shutil.copy(library, folder / LIBRARY_FILE)
        return folder

    def _linear(self, x: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        result: npt.NDArray[np.float64] = x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]
        return result

    def _normalized(self, x: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
        centered = x - x.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centered**2).mean(axis=1, keepdims=True) + self.shape.epsilon)
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        result: npt.NDArray[np.float64] = centered / deviation * weight + bias
        return result


def compiled_library(folder: Path) -> Path:
    """Compile the encoder as the build does."""
    library = folder / LIBRARY_FILE
    compile_encoder(library)
    return library


def runnable_library(folder: Path) -> Path:
    """Compile the encoder as the build does if the processor can run it, else with emulated AVX-512."""
    if "avx512_vnni" in instruction_sets():
        return compiled_library(folder)
    library = folder / LIBRARY_FILE
    portable_library(library)
    return library


def rewrite(
    folder: Path, *, metadata: Mapping[str, str | None] | None = None, tensors: Mapping[str, Any] | None = None
) -> None:
    """Change values of a weights file's metadata, and whole tensors; None removes one."""
    path = folder / WEIGHTS_FILE
    with safe_open(path, framework="numpy") as file:
        kept_metadata: dict[str, str | None] = dict(file.metadata())
        kept: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    kept_metadata |= metadata or {}
    kept |= tensors or {}
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in kept.items() if tensor is not None},
        path,
        metadata={name: value for name, value in kept_metadata.items() if value is not None},
    )
