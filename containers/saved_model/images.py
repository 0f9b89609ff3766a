"""Decode PNG and JPEG images, and encode PNG masks. The build reads its training images with the same code."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin
from PIL.ImageFile import ImageFile

from containers.saved_model.signature import IMAGE_SIDE, MASK_THRESHOLD
from containers.serving.errors import ServingError

PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
MAX_IMAGE_BYTES = 1024 * 1024
"""Largest encoded image; 224 x 224 incompressible pixels take 150 kB."""
_MAX_JPEG_SCANS = 64
"""libjpeg's own progressive script has 10; thousands of scans in a small file keep a decoder busy for minutes."""
MAX_METADATA_BYTES = 1024 * 1024
"""Most decompressed text in a PNG; by default, Pillow keeps up to 64 MiB per image."""
PngImagePlugin.MAX_TEXT_MEMORY = MAX_METADATA_BYTES
_PNG_BIT_DEPTH = 24
"""Offset of the bit depth in a PNG: 8 bytes of signature, 8 of chunk header, 8 of width and height (PNG, 11.2.2)."""
_NAMES = {PNG: "PNG", JPEG: "JPEG"}
# The plugins instead of Image.open, which warns about large images and guesses the format.
_PLUGINS: dict[str, type[ImageFile]] = {PNG: PngImagePlugin.PngImageFile, JPEG: JpegImagePlugin.JpegImageFile}


def open_image(content: bytes, media_type: str) -> Image.Image:
    """Decode one still image of 224 x 224 pixels in its own mode; other content is refused before decoding.

    media_type: PNG or JPEG; the content must match it.
    Raises ServingError 413 for too many bytes, and 400 for other content, another size, or an animation.
    """
    name = _NAMES[media_type]
    if not content:
        raise ServingError(400, "empty_image", f"the image has no bytes; send a {name} of {_SIZE} pixels")
    if len(content) > MAX_IMAGE_BYTES:
        raise ServingError(
            413,
            "image_too_large",
            f"the {name} has {len(content)} bytes, at most {MAX_IMAGE_BYTES} are read; "
            f"send {_SIZE} pixels without metadata",
        )
    image = _header(content, media_type, name)
    if image.size != (IMAGE_SIDE, IMAGE_SIDE):
        width, height = image.size
        raise ServingError(
            400,
            "wrong_size",
            f"the {name} is {width} x {height} pixels, this model takes only {_SIZE}; resize the image first",
        )
    if getattr(image, "is_animated", False):
        raise ServingError(400, "animated_image", f"the {name} has more than one frame; send a still image")
    if media_type == PNG and content[_PNG_BIT_DEPTH] == 16:
        raise ServingError(400, "wrong_depth", f"the {name} has 16 bits a channel; send 8")
    if media_type == JPEG and content.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise ServingError(
            400, "too_many_scans", f"the {name} has more than {_MAX_JPEG_SCANS} scans; save it again as a baseline JPEG"
        )
    try:
        image.load()
    # Pillow's decoders raise many types of errors for broken files, including SyntaxError and struct.error.
    except Exception as error:
        raise ServingError(
            400,
            "broken_image",
            f"the {name} cannot be decoded ({_one_line(error)}) and may be truncated; save it again",
        ) from error
    return image


def decode_image(content: bytes, media_type: str) -> NDArray[np.uint8]:
    """Return the pixels of an 8-bit color or gray image as stored, ignoring EXIF rotation; shape (224, 224, 3).

    Raises ServingError as `open_image` does, and 400 for transparency and for other color spaces.
    """
    image = open_image(content, media_type)
    if image.mode not in ("RGB", "L", "P", "1") or "transparency" in image.info:
        given = "has transparency" if "A" in image.mode or "transparency" in image.info else f"is of mode {image.mode}"
        raise ServingError(
            400, "wrong_colours", f"the {_NAMES[media_type]} {given}; send 8-bit RGB or gray without transparency"
        )
    return np.asarray(image.convert("RGB"))


def to_floats(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Scale pixels from 0..255 to the model's 0..1."""
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


def binary_mask(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return 255 where the probability reaches MASK_THRESHOLD, and 0 elsewhere."""
    return np.where(probabilities >= MASK_THRESHOLD, np.uint8(255), np.uint8(0))


def encode_mask(mask: NDArray[np.uint8]) -> bytes:
    """Encode a mask of shape (224, 224) as an 8-bit grayscale PNG."""
    stream = io.BytesIO()
    # Masks consist of flat areas, so level 1 takes a fifth of level 6's time for few more bytes.
    Image.fromarray(mask).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _header(content: bytes, media_type: str, name: str) -> ImageFile:
    try:
        return _PLUGINS[media_type](io.BytesIO(content))
    except Exception as error:
        raise ServingError(
            400, "not_an_image", f"the content is not a readable {name} ({_one_line(error)}); send {_SIZE} pixels"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


_SIZE = f"{IMAGE_SIDE} x {IMAGE_SIDE}"
