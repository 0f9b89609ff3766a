"""The recipe of a saved_model build: the one home of its settings, defaults and limits."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from containers.saved_model.signature import IMAGE_SIDE

Precision = Literal["fp32", "int8", "bf16"]
Preset = Literal["full", "demo"]

MIN_IMAGES = 20
"""Fewest images of a data set: with fewer, a share of 5 % leaves a split without an image."""
MAX_IMAGES = 20_000
"""Most images of a data set: the build holds them all, 0.2 MB each with its mask, in memory."""
MAX_DEPTH = 5
"""Times that 224 can be halved."""
_DEMO: Mapping[str, Any] = {"source": {"kind": "generated", "images": 160}, "base_width": 16}
"""A quarter of the full size's parameters on fewer images, for a build of minutes on two cores."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GeneratedSource(_Frozen):
    """Pictures of cells made by this project's seeded generator, for work without a network."""

    kind: Literal["generated"] = "generated"
    images: int = Field(default=400, ge=MIN_IMAGES, le=MAX_IMAGES)
    seed: int = Field(default=0, ge=0)


class S3Source(_Frozen):
    """An S3 prefix with `images/*.png|jpg` and `masks/*.png` of equal names."""

    kind: Literal["s3"] = "s3"
    url: str = Field(pattern=r"^s3://[^/]+/.+$")


class FolderSource(_Frozen):
    """A folder on the building machine, laid out as S3Source says."""

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1)


ImageSource = GeneratedSource | S3Source | FolderSource


class Gate(_Frozen):
    """Accuracy that the models must have on the held-out images.

    min_iou: IoU of TensorFlow in FP32; a network below it has not learned, and a ratio to it means nothing.
    min_iou_ratio: each OpenVINO artifact's IoU over that of FP32. 0.99 is the form and the limit of MLPerf Inference.
    """

    min_iou: float = Field(default=0.5, ge=0, le=1)
    min_iou_ratio: float = Field(default=0.99, gt=0, le=1)


class SavedModelRecipe(_Frozen):
    """Everything that decides what a saved_model build makes, besides the source code.

    preset: "demo" changes the defaults of source and base_width to a size for a laptop.
    depth: halvings of the image. base_width: channels at full size; each halving doubles them. The defaults, 4 and
        32, make the published U-Net at half its width, of 7.8 million parameters.
    test_share, validation_share: of all images; the first are scored, the second decide when training stops.
    patience: epochs without a better validation IoU after which training stops.
    calibration_images: training images that INT8 is calibrated on; fewer where there are fewer.
    precisions: OpenVINO artifacts besides TensorFlow's.
    png_signature: adds a signature and an `inference.py`, with which TensorFlow Serving takes and gives PNG.
    """

    preset: Preset = "full"
    source: Annotated[ImageSource, Field(discriminator="kind")] = GeneratedSource()
    test_share: float = Field(default=0.2, ge=0.05, le=0.5)
    validation_share: float = Field(default=0.1, ge=0.05, le=0.3)
    depth: int = Field(default=4, ge=1, le=MAX_DEPTH)
    base_width: int = Field(default=32, ge=4, le=64)
    epochs: int = Field(default=12, ge=1, le=1000)
    patience: int = Field(default=5, ge=1, le=1000)
    batch_size: int = Field(default=4, ge=1, le=64)
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    calibration_images: int = Field(default=64, ge=8, le=1000)
    precisions: tuple[Precision, ...] = ("fp32", "int8", "bf16")
    png_signature: bool = False
    gate: Gate = Gate()
    # NumPy, which Keras also seeds, takes 32 bits at most.
    seed: int = Field(default=42, ge=0, le=2**31 - 1)

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("preset") == "demo":
            return {**_DEMO, **data}
        return data

    @field_validator("precisions")
    @classmethod
    def _each_once(cls, value: tuple[Precision, ...]) -> tuple[Precision, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"precisions are {', '.join(value)}: name each once")
        return value

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """What the build reads from S3: a prefix."""
        return (self.source.url,) if isinstance(self.source, S3Source) else ()


assert IMAGE_SIDE % 2**MAX_DEPTH == 0
