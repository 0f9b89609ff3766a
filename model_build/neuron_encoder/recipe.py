"""The recipe of a neuron_encoder build: its settings, defaults and limits."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from model_build.encoder.recipe import ModelRecipe, ProjectData, SquadEvaluation

Target = Literal["inf2", "inf1", "cpu"]
MAX_BUCKETS = 32
"""Most traces in one archive: each has its own copy of the weights, and takes minutes to compile."""
LONGEST = 512
"""Number of BERT's positions."""
_COMPILER_ARGS: Mapping[Target, tuple[str, ...]] = {
    "inf2": ("--model-type", "transformer", "--auto-cast", "matmult", "--auto-cast-type", "bf16"),
    "inf1": (),
    "cpu": (),
}
"""Default compiler arguments. neuronx-cc: matrix products in BF16, the rest in FP32. neuron-cc casts to BF16 itself."""
_TOLERANCES: Mapping[Target, float] = {"inf2": 0.25, "inf1": 0.25, "cpu": 1e-3}
_OURS = {"--target": "target", "--neuroncore-pipeline-cores": "cores_per_copy", "--framework": "target"}
"""Compiler options that the build sets, and the setting that determines each."""

INF1_IS_LEGACY = (
    "target is 'inf1', a legacy setting: AWS has archived torch-neuron, has stopped releasing its compiler, and "
    "ships no machine image for it after Neuron 2.26; use target inf2"
)


class NeuronEncoderRecipe(ModelRecipe):
    """All settings that affect the result of a neuron_encoder build."""

    target: Target = "inf2"
    """`inf2`, traced by torch-neuronx; `inf1`, legacy, by torch-neuron; or `cpu`, converted by OpenVINO for virtual
    cores without the SDK."""
    lengths: tuple[Annotated[int, Field(ge=16, le=LONGEST)], ...] = Field(default=(128, 256, 384), min_length=1)
    """Traced tokens per row. Every pair of a length and a batch is a bucket, to which windows are padded."""
    batches: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(default=(1, 8), min_length=1)
    """Traced rows per batch."""
    dynamic_batch: bool = False
    """Trace each length once, with the largest batch, and let the runtime pad smaller ones. This takes less accelerator
    memory and build time, but one row then takes as long as the largest batch."""
    async_load: bool = False
    """Load buckets onto the NeuronCore concurrently (torch_neuronx.async_load)."""
    compiler_args: tuple[str, ...] | None = None
    """Arguments of neuronx-cc or neuron-cc; None means BF16 matrix products on inf2, and neuron-cc's defaults on inf1.
    """
    cores_per_copy: int = Field(default=1, ge=1, le=64)
    """NeuronCores per process; on inf1 the model is pipelined over them."""
    tolerance: float | None = Field(default=None, gt=0)
    """Largest allowed difference of a logit from PyTorch on the CPU; None means 0.25 for the accelerators, which
    compute in BF16, and 0.001 for target cpu."""
    doc_stride: int = Field(default=64, ge=0)
    """Tokens by which neighboring windows overlap, as in the Hugging Face examples."""
    max_query_length: int = Field(default=64, ge=8)
    """Most question tokens kept, as in the Hugging Face examples."""
    data: Annotated[ProjectData | SquadEvaluation, Field(discriminator="kind")] = ProjectData()
    """Questions that the model must answer clearly better than chance before it is traced."""
    evaluation_questions: int | None = Field(default=None, ge=1)
    """Score on the first N questions only."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Random seed of the inputs that the traced model is compared on."""

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """Return the S3 URLs that the build reads: objects, and prefixes of folders."""
        files = (self.data.evaluation,) if isinstance(self.data, SquadEvaluation) else ()
        return (*super().s3_urls, *(url for url in files if url.startswith("s3://")))

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Return the length and batch of every bucket, in ascending order."""
        return tuple((length, batch) for length in self.lengths for batch in self.batches)

    @property
    def traced_shapes(self) -> tuple[tuple[int, int], ...]:
        """Return the length and batch of every trace; with dynamic batches, there are fewer traces than buckets."""
        if self.dynamic_batch:
            return tuple((length, self.batches[-1]) for length in self.lengths)
        return self.shapes

    @property
    def largest_difference(self) -> float:
        """Return the tolerance, or the target's default."""
        return _TOLERANCES[self.target] if self.tolerance is None else self.tolerance

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return all compiler arguments: the configured ones, and those that follow from other settings."""
        chosen = _COMPILER_ARGS[self.target] if self.compiler_args is None else self.compiler_args
        if self.target == "inf2":
            return (*chosen, "--target", "inf2")
        if self.target == "inf1" and self.cores_per_copy > 1:
            return (*chosen, "--neuroncore-pipeline-cores", str(self.cores_per_copy))
        return chosen

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings to show before a build, one line each."""
        legacy = (INF1_IS_LEGACY,) if self.target == "inf1" else ()
        return (*legacy, *super().warnings)

    @model_validator(mode="after")
    def _possible(self) -> "NeuronEncoderRecipe":
        for name, values in (("lengths", self.lengths), ("batches", self.batches)):
            if list(values) != sorted(set(values)):
                raise ValueError(
                    f"{name} are {', '.join(map(str, values))}: list each value once, in ascending order: "
                    f"{sorted(set(values))}"
                )
        if len(self.shapes) > MAX_BUCKETS:
            raise ValueError(
                f"lengths and batches make {len(self.shapes)} buckets: an archive holds at most {MAX_BUCKETS}; remove "
                "some of them"
            )
        room = self.lengths[-1] - self.max_query_length - 3
        if self.doc_stride >= room:
            raise ValueError(
                f"doc_stride is {self.doc_stride}: it must be less than {room}, which is the largest of lengths - "
                "max_query_length - 3"
            )
        self._check_target()
        return self

    def _check_target(self) -> None:
        if self.target != "inf2" and self.async_load:
            raise ValueError(
                f"async_load is true with target {self.target!r}: only torch-neuronx, for inf2, supports it; set it "
                "to false"
            )
        if self.target == "cpu" and self.dynamic_batch:
            raise ValueError(
                "dynamic_batch is true with target 'cpu': OpenVINO's model accepts any batch without it; set it to "
                "false"
            )
        if self.target == "cpu" and self.compiler_args is not None:
            raise ValueError("compiler_args are set with target 'cpu': no Neuron compiler runs for it; remove them")
        if self.target == "inf2" and self.cores_per_copy > 1:
            raise ValueError(
                f"cores_per_copy is {self.cores_per_copy} with target 'inf2': torch_neuronx.trace compiles for one "
                "NeuronCore, so the others would stay idle; set 1, and let copies fill the instance"
            )
        for argument in self.compiler_args or ():
            option = argument.partition("=")[0]
            if option in _OURS:
                raise ValueError(
                    f"compiler_args contain {argument!r}: the build sets that option; set {_OURS[option]} instead"
                )
