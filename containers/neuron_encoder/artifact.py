"""`neuron.json`: what was traced for NeuronCores. The build writes it with this module, the server reads it."""

import json
from pathlib import Path
from typing import Literal

import msgspec

from containers.serving.errors import StartupError

NEURON_FILE = "neuron.json"
TOKENIZER_FILE = "tokenizer.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of every traced model, in order. The published trace leaves the segment ids out, which costs accuracy."""
MAX_LENGTH, MAX_BATCH = 8192, 1024
"""Tokens in a row and rows of a traced shape, which takes memory before anything is asked."""
Target = Literal["inf1", "inf2", "cpu"]


class Bucket(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, order=True):
    """A shape that was traced: tokens in a row, rows, and the file in the archive; several may name one file."""

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
    """The traced shapes and what one copy of the model needs.

    sdk: versions by package. cores_per_copy: NeuronCores of a process. device_bytes: of one copy on the accelerator.
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
            raise ValueError("buckets must name at least one shape, and each only once")
        if self.cores_per_copy < 1 or self.device_bytes < 0:
            raise ValueError("cores_per_copy must be 1 or more and device_bytes 0 or more")

    @property
    def lengths(self) -> tuple[int, ...]:
        """Traced lengths, shortest first."""
        return tuple(sorted({bucket.length for bucket in self.buckets}))

    def batches(self, length: int) -> tuple[int, ...]:
        """Traced batch sizes of a length, smallest first."""
        return tuple(sorted(bucket.batch for bucket in self.buckets if bucket.length == length))

    def to_json(self) -> bytes:
        """Indented JSON with sorted keys: the same artifact is always the same bytes."""
        return json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True).encode() + b"\n"


def load_artifact(model_dir: Path) -> NeuronArtifact:
    """Reads `neuron.json`; raises StartupError with one line."""
    try:
        return msgspec.json.decode((model_dir / NEURON_FILE).read_bytes(), type=NeuronArtifact)
    except OSError as error:
        raise StartupError(
            f"no {NEURON_FILE} in the model archive ({error.strerror}): build it with model_build"
        ) from error
    except msgspec.MsgspecError as error:
        raise StartupError(f"{NEURON_FILE} is not valid: {error}; rebuild the artifact") from error
