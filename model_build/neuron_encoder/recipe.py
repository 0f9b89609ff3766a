"""The recipe of a neuron_encoder build: the one home of its settings, defaults and limits."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model_build.encoder.recipe import HuggingFaceSource, ModelSource, S3Source

Target = Literal["inf2", "inf1", "cpu"]
MAX_BUCKETS = 32
"""Traces in one archive: each holds the weights again, and takes minutes to compile."""
LONGEST = 512
"""Positions that BERT has."""
_COMPILER_ARGS: Mapping[Target, tuple[str, ...]] = {
    "inf2": ("--model-type", "transformer", "--auto-cast", "matmult", "--auto-cast-type", "bf16"),
    "inf1": (),
    "cpu": (),
}
"""neuronx-cc: matrix products in BF16, the rest in FP32. neuron-cc casts to BF16 by itself."""
_TOLERANCES: Mapping[Target, float] = {"inf2": 0.25, "inf1": 0.25, "cpu": 1e-3}
_OURS = {"--target": "target", "--neuroncore-pipeline-cores": "cores_per_copy", "--framework": "target"}
"""Compiler options that the build gives itself, and the setting that each is made from."""

INF1_IS_LEGACY = (
    "target is 'inf1', a legacy setting: AWS has archived torch-neuron, gives its compiler no more releases, and "
    "ships no machine image for it after Neuron 2.26; use target inf2"
)


class NeuronEncoderRecipe(BaseModel):
    """Everything that decides what a neuron_encoder build makes, besides the source code.

    target: inf2 by torch-neuronx; inf1, legacy, by torch-neuron; cpu by OpenVINO, for virtual cores without the SDK.
    lengths, batches: tokens in a row and rows; every pair is a bucket that a request's windows are padded into.
    dynamic_batch: traces each length once, with the largest batch, and lets the runtime fill smaller ones up; less
        memory on the accelerator and shorter builds, but one row then takes as long as the largest batch.
    async_load: lets buckets load onto the NeuronCore at the same time (torch_neuronx.async_load).
    compiler_args: of neuronx-cc or neuron-cc; None takes BF16 matrix products on inf2, neuron-cc's own on inf1.
    cores_per_copy: NeuronCores that one process has; on inf1 the model is pipelined over them.
    tolerance: largest difference of a logit from PyTorch on the processor; None takes 0.25 where the accelerator
        computes in BF16, 0.001 on the processor.
    doc_stride, max_query_length: how windows are cut, in tokens, as in the Hugging Face examples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: ModelSource = HuggingFaceSource()
    target: Target = "inf2"
    lengths: tuple[Annotated[int, Field(ge=16, le=LONGEST)], ...] = Field(default=(128, 256, 384), min_length=1)
    batches: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(default=(1, 8), min_length=1)
    dynamic_batch: bool = False
    async_load: bool = False
    compiler_args: tuple[str, ...] | None = None
    cores_per_copy: int = Field(default=1, ge=1, le=64)
    tolerance: float | None = Field(default=None, gt=0)
    doc_stride: int = Field(default=64, ge=0)
    max_query_length: int = Field(default=64, ge=8)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the build reads from S3: a prefix."""
        return (self.source.url,) if isinstance(self.source, S3Source) else ()

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Length and batch of every bucket, in ascending order."""
        return tuple((length, batch) for length in self.lengths for batch in self.batches)

    @property
    def traced_shapes(self) -> tuple[tuple[int, int], ...]:
        """Length and batch of every trace; fewer than there are buckets where batches are dynamic."""
        if self.dynamic_batch:
            return tuple((length, self.batches[-1]) for length in self.lengths)
        return self.shapes

    @property
    def largest_difference(self) -> float:
        """The tolerance, or the target's own."""
        return _TOLERANCES[self.target] if self.tolerance is None else self.tolerance

    @property
    def arguments(self) -> tuple[str, ...]:
        """All of the compiler's arguments: those that are set, and those that follow from the other settings."""
        chosen = _COMPILER_ARGS[self.target] if self.compiler_args is None else self.compiler_args
        if self.target == "inf2":
            return (*chosen, "--target", "inf2")
        if self.target == "inf1" and self.cores_per_copy > 1:
            return (*chosen, "--neuroncore-pipeline-cores", str(self.cores_per_copy))
        return chosen

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before it is built, one line each."""
        legacy = (INF1_IS_LEGACY,) if self.target == "inf1" else ()
        moving = self.source.warnings if isinstance(self.source, HuggingFaceSource) else ()
        return (*legacy, *moving)

    @model_validator(mode="after")
    def _possible(self) -> "NeuronEncoderRecipe":
        for name, values in (("lengths", self.lengths), ("batches", self.batches)):
            if list(values) != sorted(set(values)):
                raise ValueError(
                    f"{name} are {', '.join(map(str, values))}: name each once, the smallest first: "
                    f"{sorted(set(values))}"
                )
        if len(self.shapes) > MAX_BUCKETS:
            raise ValueError(
                f"lengths and batches make {len(self.shapes)} buckets: at most {MAX_BUCKETS} go into an archive; "
                "leave some out"
            )
        room = self.lengths[-1] - self.max_query_length - 3
        if self.doc_stride >= room:
            raise ValueError(
                f"doc_stride is {self.doc_stride}: it must be less than {room}, which is the longest of lengths - "
                "max_query_length - 3"
            )
        self._check_target()
        return self

    def _check_target(self) -> None:
        if self.target != "inf2" and self.async_load:
            raise ValueError(f"async_load is true with target {self.target!r}: only torch-neuronx, of inf2, has it")
        if self.target == "cpu" and self.dynamic_batch:
            raise ValueError(
                "dynamic_batch is true with target 'cpu': OpenVINO's model takes every batch as it is; leave it out"
            )
        if self.target == "cpu" and self.compiler_args is not None:
            raise ValueError("compiler_args are set with target 'cpu': nothing is compiled ahead there; leave them out")
        if self.target == "inf2" and self.cores_per_copy > 1:
            raise ValueError(
                f"cores_per_copy is {self.cores_per_copy} with target 'inf2': torch_neuronx.trace compiles for one "
                "NeuronCore and the others would stay idle; set 1, and let copies fill the instance"
            )
        for argument in self.compiler_args or ():
            option = argument.partition("=")[0]
            if option in _OURS:
                raise ValueError(f"compiler_args hold {argument!r}: the build gives that option; set {_OURS[option]}")
