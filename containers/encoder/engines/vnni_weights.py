"""The weights file of the engine vnni: its sizes, its tensors, and every check made before native code reads them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from containers.serving.errors import StartupError
from containers.serving.messages import one_line

WEIGHTS_FILE = "model.safetensors"
LINEARS = ("query", "key", "value", "attended", "up", "down")
"""Linear layers. Each has an int8 `.weight` of shape (outputs, inputs), and a float32 `.scale` and `.bias` of shape
(outputs,)."""
NORMALIZATIONS = ("after_attention", "after_feed_forward")
"""Layer normalizations. Each has a float32 `.gamma` and `.beta` of shape (hidden,)."""
MULTIPLE = 32
"""Columns in a panel of the kernels; the head size and the intermediate size must be multiples of it."""
LARGEST_HEAD = 128
"""Largest head size: the dot product of a longer query and key could exceed 2**31."""
LIMITS = {
    "layers": 1024, "hidden": 65_536, "heads": 65_536, "intermediate": 65_536, "words": 2**24, "positions": 32_768,
    "types": 65_536,
}  # fmt: skip
"""Largest value of each size; the same as in model_build/encoder/vnni/encoder.cc, which gives the reasons."""
MAX_WEIGHT_BYTES = 8 * 2**30
"""Most memory for the weights; BERT-large needs about 350 MB."""
_DTYPES: Mapping[str, tuple[str, int]] = {"I8": ("int8", 1), "F32": ("float32", 4)}
"""NumPy name and size in bytes of each data type, by its name in safetensors."""
_REBUILD = "rebuild the artifact with model_build"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """Sizes of a BERT encoder and the epsilon of its normalizations, stored as metadata of the weights file."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    words: int
    positions: int
    types: int
    epsilon: float

    def to_metadata(self) -> dict[str, str]:
        """Return the sizes as safetensors metadata."""
        return {name: repr(value) for name, value in asdict(self).items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "EncoderShape":
        """Read the output of `to_metadata`; raises StartupError for sizes that the encoder cannot run."""
        given = metadata or {}
        for name in (each.name for each in fields(cls)):
            if name not in given:
                raise _damaged(f"its metadata has no {name}")
        sizes = {name: _whole_number(name, given[name]) for name in LIMITS}
        shape = cls(**sizes, epsilon=_epsilon(given["epsilon"]))
        for problem in shape.problems():
            raise _damaged(problem)
        return shape

    def problems(self) -> Iterator[str]:
        """Yield the reasons why the encoder cannot run a model of these sizes."""
        for name, most in LIMITS.items():
            size = getattr(self, name)
            if not 1 <= size <= most:
                yield f"{name} is {size}: it must be 1 to {most}"
                return
        if not 0 < float(np.float32(self.epsilon)) <= 1:
            yield f"epsilon is {self.epsilon}: it must be more than 0 and at most 1"
        head, rest = divmod(self.hidden, self.heads)
        if rest or head % MULTIPLE or not MULTIPLE <= head <= LARGEST_HEAD:
            yield (
                f"hidden is {self.hidden} for {self.heads} heads: each head must have {MULTIPLE} to {LARGEST_HEAD} "
                f"dimensions, a multiple of {MULTIPLE}"
            )
        if self.intermediate % MULTIPLE:
            yield f"intermediate is {self.intermediate}: it must be a multiple of {MULTIPLE}"
        if (size := self.weight_bytes()) > MAX_WEIGHT_BYTES:
            yield f"the sizes in its metadata add up to {size} bytes of weights, more than {MAX_WEIGHT_BYTES}"

    def weight_bytes(self) -> int:
        """Return the total size of all tensors in bytes."""
        fixed = sum(_bytes(dtype, sizes) for _, dtype, sizes in self._fixed_tensors())
        return fixed + self.layers * sum(_bytes(dtype, sizes) for _, dtype, sizes in self._layer_tensors(0))

    def tensors(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield the name, data type (as safetensors names it) and shape of every tensor in the file."""
        yield from self._fixed_tensors()
        for layer in range(self.layers):
            yield from self._layer_tensors(layer)

    def _fixed_tensors(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        hidden = self.hidden
        yield "words.weight", "I8", (self.words, hidden)
        yield "words.scale", "F32", (self.words,)
        yield "positions", "F32", (self.positions, hidden)
        yield "types", "F32", (self.types, hidden)
        yield "embedded.gamma", "F32", (hidden,)
        yield "embedded.beta", "F32", (hidden,)
        yield "head.weight", "F32", (2, hidden)
        yield "head.bias", "F32", (2,)

    def _layer_tensors(self, layer: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        for name in LINEARS:
            outputs = self.intermediate if name == "up" else self.hidden
            inputs = self.intermediate if name == "down" else self.hidden
            yield f"layers.{layer}.{name}.weight", "I8", (outputs, inputs)
            yield f"layers.{layer}.{name}.scale", "F32", (outputs,)
            yield f"layers.{layer}.{name}.bias", "F32", (outputs,)
        for name in NORMALIZATIONS:
            yield f"layers.{layer}.{name}.gamma", "F32", (self.hidden,)
            yield f"layers.{layer}.{name}.beta", "F32", (self.hidden,)


class WeightsFile:
    """An open weights file whose tensors all have the right data type and shape.

    Raises StartupError for a file that is missing, damaged, or inconsistent with its own metadata.
    """

    def __init__(self, path: Path) -> None:
        try:
            file: Any = safe_open(path, framework="numpy")  # Any, since safetensors has no type hints
            metadata: Mapping[str, str] | None = file.metadata()
        except OSError as error:
            raise StartupError(
                f"no {path.name} in the model archive ({one_line(error)}): build it with model_build"
            ) from error
        except SafetensorError as error:
            raise _damaged(f"it is not a safetensors file ({one_line(error)})") from error
        self._file = file
        self.shape = EncoderShape.from_metadata(metadata)
        self._check_tensors()

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """Read one tensor; raises StartupError for floats that are not finite or scales that are not positive."""
        try:
            values: npt.NDArray[np.generic] = np.ascontiguousarray(self._file.get_tensor(name))
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(f"{name} cannot be read ({one_line(error)})") from error
        if values.dtype == np.float32:
            if not np.isfinite(values).all():
                raise _damaged(f"{name} has values that are not finite")
            if name.endswith(".scale") and not (values.astype(np.float32) > 0).all():
                raise _damaged(f"{name} has values that are not positive")
        return values

    def _check_tensors(self) -> None:
        present = set(self._file.keys())
        for name, dtype, sizes in self.shape.tensors():
            if name not in present:
                raise _damaged(f"it has no tensor {name}, which its metadata calls for")
            tensor = self._file.get_slice(name)
            actual_dtype, actual_sizes = str(tensor.get_dtype()), tuple(tensor.get_shape())
            if (actual_dtype, actual_sizes) != (dtype, sizes):
                raise _damaged(
                    f"{name} is {_described(actual_dtype, actual_sizes)}, its metadata calls for "
                    f"{_described(dtype, sizes)}"
                )
            present.discard(name)
        if present:
            raise _damaged(f"it has a tensor {min(present)[:80]!r}, which its metadata does not call for")


def _bytes(dtype: str, sizes: tuple[int, ...]) -> int:
    return math.prod(sizes) * _DTYPES[dtype][1]


def _described(dtype: str, sizes: tuple[int, ...]) -> str:
    name = _DTYPES[dtype][0] if dtype in _DTYPES else dtype
    return f"{name} of shape ({', '.join(str(size) for size in sizes)})"


def _whole_number(name: str, text: str) -> int:
    # int() raises ValueError for thousands of digits, and accepts digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise _damaged(f"{name} is {text[:40]!r}: it must be a whole number from 1 to {LIMITS[name]}")
    return int(text)


def _epsilon(text: str) -> float:
    try:
        return float(text[:40])
    except ValueError:
        raise _damaged(f"epsilon is {text[:40]!r}: it must be a number") from None


def _damaged(problem: str) -> StartupError:
    return StartupError(f"{WEIGHTS_FILE} cannot be served: {problem}; {_REBUILD}")
