"""`neuron.json`, the description of a model traced for NeuronCores, as written by the build and read by the server."""

import json
from pathlib import Path
from typing import Literal

import msgspec

from containers.serving.errors import StartupError

NEURON_FILE = "neuron.json"
TOKENIZER_FILE = "tokenizer.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of every traced model, in order. The published trace omits the segment ids, which costs accuracy."""
MAX_LENGTH, MAX_BATCH = 8192, 1024
"""Most tokens per row and most rows of a traced shape, which takes memory even before the first request."""
Target = Literal["inf1", "inf2", "cpu"]


class Bucket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, order=True):
    """A traced shape.

    length: tokens per row.
    batch: rows.
    file: path in the archive; several buckets may share a file.
    """

    length: int
    batch: int
    file: str

    def __post_init__(self) -> None:
        for name, value, most in (("length", self.length, MAX_LENGTH), ("batch", self.batch, MAX_BATCH)):
            if not 1 <= value <= most:
                raise ValueError(f"a bucket's {name} is {value}: it must be 1 to {most}")
        if not self.file or self.file.startswith("/") or ".." in Path(self.file).parts:
            raise ValueError(f"a bucket's file is {self.file!r}: it must be a path inside the archive")


class NeuronArtifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The traced shapes, and the requirements of one copy of the model.

    sdk: SDK versions by package.
    cores_per_copy: NeuronCores per process.
    device_bytes: accelerator memory of one copy.
    """

    target: Target
    sdk: dict[str, str]
    inputs: tuple[str, ...]
    buckets: tuple[Bucket, ...]
    cores_per_copy: int
    device_bytes: int

    def __post_init__(self) -> None:
        if self.inputs != INPUTS:
            raise ValueError(f"inputs are {', '.join(self.inputs)}: they must be {', '.join(INPUTS)}, in this order")
        shapes = [(bucket.length, bucket.batch) for bucket in self.buckets]
        if not shapes or len(set(shapes)) != len(shapes):
            raise ValueError("buckets must contain at least one shape, and each shape only once")
        if self.cores_per_copy < 1 or self.device_bytes < 0:
            raise ValueError("cores_per_copy must be 1 or more and device_bytes 0 or more")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Return the traced lengths, shortest first."""
        return tuple(sorted({bucket.length for bucket in self.buckets}))

    def batches(self, length: int) -> tuple[int, ...]:
        """Return the traced batch sizes of a length, smallest first."""
        return tuple(sorted(bucket.batch for bucket in self.buckets if bucket.length == length))

    def to_json(self) -> bytes:
        """Return indented JSON with sorted keys: the same artifact always gives the same bytes."""
        return json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True).encode() + b"\n"


def load_artifact(model_dir: Path) -> NeuronArtifact:
    """Read `neuron.json`; raises StartupError with one line."""
    try:
        return msgspec.json.decode((model_dir / NEURON_FILE).read_bytes(), type=NeuronArtifact)
    except OSError as error:
        raise StartupError(
            f"no {NEURON_FILE} in the model archive ({error.strerror}): build it with model_build"
        ) from error
    except msgspec.MsgspecError as error:
        raise StartupError(f"{NEURON_FILE} is not valid: {error}; rebuild the artifact") from error
