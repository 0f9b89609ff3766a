"""The recipe of a saved_model build: its settings, defaults and limits."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from containers.saved_model.signature import IMAGE_SIDE

Precision = Literal["fp32", "int8", "bf16"]
Preset = Literal["full", "demo"]

MIN_IMAGES = 20
"""Fewest images in a data set: with fewer, a share of 5 % leaves a split without images."""
MAX_IMAGES = 20_000
"""Most images in a data set: the build holds all of them in memory, 0.2 MB each with its mask."""
MAX_DEPTH = 5
"""How often 224 can be halved."""
_DEMO: Mapping[str, Any] = {"source": {"kind": "generated", "images": 160}, "base_width": 16}
"""A quarter of the full model's parameters and fewer images, for a build that takes minutes on two cores."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class GeneratedSource(_Frozen):
    """Pictures of cells from this project's seeded generator, for work without network access."""

    kind: Literal["generated"] = "generated"
    """Kind of the source."""
    images: int = Field(default=400, ge=MIN_IMAGES, le=MAX_IMAGES)
    """Number of pictures."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the pictures."""


class S3Source(_Frozen):
    """An S3 prefix with `images/*.png|jpg` and `masks/*.png` of the same names."""

    kind: Literal["s3"] = "s3"
    """Kind of the source."""
    url: str = Field(pattern=r"^s3://[^/]+/.+$")
    """The prefix, `s3://bucket/prefix`."""


class FolderSource(_Frozen):
    """A folder on the build machine, with the same layout as S3Source."""

    kind: Literal["folder"] = "folder"
    """Kind of the source."""
    path: str = Field(min_length=1)
    """Path of the folder."""


ImageSource = GeneratedSource | S3Source | FolderSource


class Gate(_Frozen):
    """The accuracy that the models must have on the held-out images."""

    min_iou: float = Field(default=0.5, ge=0, le=1)
    """Lowest IoU of TensorFlow in FP32; a network below it has not learned, and ratios to it are meaningless."""
    min_iou_ratio: float = Field(default=0.99, gt=0, le=1)
    """Lowest ratio of each OpenVINO artifact's IoU to that of FP32. The ratio and its limit of 0.99 follow MLPerf
    Inference."""


class SavedModelRecipe(_Frozen):
    """All settings that affect the result of a saved_model build."""

    preset: Preset = "full"
    """`demo` changes the defaults of source and base_width to a size for a laptop."""
    source: Annotated[ImageSource, Field(discriminator="kind")] = GeneratedSource()
    """The images and masks to train on."""
    test_share: float = Field(default=0.2, ge=0.05, le=0.5)
    """Fraction of all images that is held out for the scores."""
    validation_share: float = Field(default=0.1, ge=0.05, le=0.3)
    """Fraction of all images that decides when training stops."""
    depth: int = Field(default=4, ge=1, le=MAX_DEPTH)
    """Number of times that the network halves the image."""
    base_width: int = Field(default=32, ge=4, le=64)
    """Channels at full size; each halving doubles them. With the default depth of 4, the default of 32 gives the
    published U-Net at half its width, with 7.8 million parameters."""
    epochs: int = Field(default=12, ge=1, le=1000)
    """Most passes over the training images."""
    patience: int = Field(default=5, ge=1, le=1000)
    """Epochs without a better validation IoU after which training stops."""
    batch_size: int = Field(default=4, ge=1, le=64)
    """Images per training step."""
    learning_rate: float = Field(default=2e-3, gt=0, le=1)
    """Initial learning rate of Adam, which decays to 0 along a cosine."""
    calibration_images: int = Field(default=64, ge=8, le=1000)
    """Most training images that INT8 is calibrated on."""
    precisions: tuple[Precision, ...] = ("fp32", "int8", "bf16")
    """OpenVINO artifacts to build in addition to TensorFlow's."""
    png_signature: bool = False
    """Add a signature and an `inference.py` for PNG requests and responses of TensorFlow Serving."""
    gate: Gate = Gate()
    """The accuracy that the models must have."""
    # NumPy, which Keras also seeds, accepts at most 32 bits.
    seed: int = Field(default=42, ge=0, le=2**31 - 1)
    """Random seed of the splits, the training and the calibration."""

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
            raise ValueError(f"precisions are {', '.join(value)}: list each precision once")
        return value

    @property
    def s3_urls(self) -> tuple[str, ...]:
        """Return the S3 URLs that the build reads: a prefix, or none."""
        return (self.source.url,) if isinstance(self.source, S3Source) else ()


assert IMAGE_SIDE % 2**MAX_DEPTH == 0
