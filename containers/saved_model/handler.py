"""Requests and responses of the saved_model image: JSON, npy, PNG and JPEG in; JSON, npy and PNG out."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from containers.saved_model.engine import Segmenter, probabilities
from containers.saved_model.images import JPEG, PNG, binary_mask, decode_image, encode_mask, to_floats
from containers.saved_model.npy import NPY, decode_npy, encode_npy
from containers.saved_model.signature import CHANNELS, IMAGE_SIDE
from containers.serving.app import JSON, Answer, Invocation
from containers.serving.bodies import without_mark
from containers.serving.errors import ServingError

CONTENT_TYPES = (JSON, NPY, PNG, JPEG)
MAX_BATCH = 8
"""Most images in one request. The masks of 14 in JSON would exceed SageMaker's 6 MiB, and each image occupies a worker.

It is checked before images are decoded, and bounds a request's memory to 5 MB of floats plus the response.
"""
PROBABILITY_DIGITS = 4
"""Decimals of a probability in JSON."""
_SCALE = 10**PROBABILITY_DIGITS

_Pixel = tuple[float, float, float]
_Side = msgspec.Meta(min_length=IMAGE_SIDE, max_length=IMAGE_SIDE)
_Row = Annotated[list[_Pixel], _Side]
_Image = Annotated[list[_Row], _Side]
Floats = NDArray[np.float32]
T = TypeVar("T")
AnswerType = Literal["application/json", "application/x-npy", "image/png"]
_DEFAULT_ANSWERS: dict[str, AnswerType] = {JSON: "application/json", NPY: "application/x-npy", PNG: PNG, JPEG: PNG}
_EXAMPLE = '{"instances": [...]} with one image of [224][224][3] numbers from 0 to 1, or a list of such images'
_SHAPES = "(224, 224, 3) or (images, 224, 224, 3)"


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instances: msgspec.Raw
    signature_name: Literal["serving_default"] = "serving_default"


_request = msgspec.json.Decoder(_Request)
_one_image = msgspec.json.Decoder(_Image)
_IMAGE_END = re.compile(rb"\][ \t\r\n]*+\][ \t\r\n]*+\]")
"""The end of an image in an array of images: three brackets that close a pixel, a row and the image."""
_SHAPE = (IMAGE_SIDE, IMAGE_SIDE, CHANNELS)
_MAX_ARRAYS = 2 * (1 + IMAGE_SIDE + IMAGE_SIDE * IMAGE_SIDE)
"""Most arrays in the text of one image: twice the valid number, so an image with a few extra arrays still gets an
exact error."""


@dataclass(frozen=True, slots=True, eq=False)
class _Images:
    """Checked images.

    pixels: values from 0 to 1, of shape (rows, 224, 224, 3).
    single: whether the request had no rows dimension.
    """

    pixels: Floats
    single: bool


@dataclass(frozen=True, slots=True)
class _Wish:
    """The requested form of the response: its media type, and whether masks are black and white."""

    media_type: AnswerType
    binary: bool


def make_handler(model: Segmenter, precision: str) -> Callable[[Invocation], Answer]:
    """Return the handler of `/invocations`, which returns a mask for each image, in order."""
    attributes = f"precision={precision}"

    def handle(invocation: Invocation) -> Answer:
        wish = _wish(invocation)
        images = _decode(invocation)
        if wish.media_type == PNG and len(images.pixels) > 1:
            raise ServingError(
                406,
                "one_mask_per_png",
                f"a PNG holds one mask, the request has {len(images.pixels)} images; accept {NPY} or {JSON}",
                "Accept",
            )
        body = _encode(probabilities(model, images.pixels), wish, images.single)
        return Answer(body, wish.media_type, attributes)

    return handle


def _wish(invocation: Invocation) -> _Wish:
    default: AnswerType = _DEFAULT_ANSWERS[invocation.content_type]
    for part in invocation.accept.split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        settings = dict(piece.partition("=")[::2] for piece in parameters)
        dtype = settings.get("dtype", "float32")
        match media_type:
            case "*/*" | "":
                return _Wish(default, binary=default == PNG)
            case "image/png" | "image/*":
                return _Wish(PNG, binary=True)
            case "application/json" | "application/*":
                return _Wish("application/json", binary=False)
            case "application/x-npy" if dtype in ("float32", "uint8"):
                return _Wish("application/x-npy", binary=dtype == "uint8")
            case _:
                continue
    raise ServingError(
        406,
        "not_acceptable",
        f"Accept is {invocation.accept[:80]!r}; this model returns {JSON}, {NPY} (float32), "
        f"{NPY}; dtype=uint8, and {PNG}",
        "Accept",
    )


def _decode(invocation: Invocation) -> _Images:
    match invocation.content_type:
        case "image/png" | "image/jpeg":
            return _Images(to_floats(decode_image(invocation.body, invocation.content_type))[np.newaxis], single=True)
        case "application/x-npy":
            return _from_array(decode_npy(invocation.body))
        case _:
            return _from_json(without_mark(invocation.body))


def _from_array(array: NDArray[Any]) -> _Images:
    single = array.ndim == 3
    if array.ndim not in (3, 4) or array.shape[-3:] != (IMAGE_SIDE, IMAGE_SIDE, CHANNELS):
        raise ServingError(400, "wrong_shape", f"the array has shape {_short(array.shape)}; send {_SHAPES}")
    batch = array[np.newaxis] if single else array
    _check_count(len(batch))
    if batch.dtype == np.uint8:
        return _Images(to_floats(np.ascontiguousarray(batch)), single)
    _check_range(array, "array")
    return _Images(np.ascontiguousarray(batch, np.float32), single)


def _from_json(body: bytes) -> _Images:
    raw = bytes(_parse(_request, body, "").instances)
    depth = _depth(raw)
    if re.fullmatch(rb"[ \t\r\n]*+\[[ \t\r\n]*+\][ \t\r\n]*+", raw):
        _check_count(0)
    if depth not in (3, 4):
        raise ServingError(400, "wrong_shape", f"instances has {depth} dimensions; send {_EXAMPLE}", "instances")
    single = depth == 3
    texts = [raw] if single else _texts(raw)
    images = np.empty((len(texts), IMAGE_SIDE, IMAGE_SIDE, CHANNELS), np.float32)
    for index, text in enumerate(texts):
        where = "instances" if single else f"instances[{index}]"
        # float64 first, so a number too large for float32 is refused as out of range instead of overflowing.
        wide = _pixels(text, where)
        _check_range(wide, where)
        images[index] = wide
    return _Images(images, single)


def _texts(raw: bytes) -> list[bytes]:
    """Return the text of each image in a JSON array of four dimensions; the array must be valid JSON.

    A pixel takes 144 bytes as Python objects, so images are decoded one at a time.
    """
    ends = [match.end() for match in _IMAGE_END.finditer(raw)]
    _check_count(len(ends))
    begins = [raw.index(b"[") + 1, *(end for end in ends[:-1])]
    texts = [raw[begin:end].lstrip(b", \t\r\n") for begin, end in zip(begins, ends, strict=True)]
    if raw[ends[-1] :].strip(b" \t\r\n") != b"]":
        raise ServingError(
            400, "invalid_field", f"an image in instances does not have 3 dimensions; send {_EXAMPLE}", "instances"
        )
    return texts


def _pixels(text: bytes, where: str) -> NDArray[np.float64]:
    """Return one image of shape (224, 224, 3) from JSON, with numbers of any size."""
    # An image has one array per pixel, one per row, and one for all rows.
    if (arrays := text.count(b"[")) > _MAX_ARRAYS:
        raise ServingError(
            400,
            "invalid_field",
            f"{where} has {arrays} arrays, but an image has {_MAX_ARRAYS // 2}; send {_EXAMPLE}",
            where,
        )
    image = _parse(_one_image, text, where)
    numbers = chain.from_iterable(chain.from_iterable(image))
    return np.fromiter(numbers, np.float64, IMAGE_SIDE * IMAGE_SIDE * CHANNELS).reshape(_SHAPE)


def _parse(decoder: msgspec.json.Decoder[T], body: bytes, root: str) -> T:
    """Decode JSON; the field of an error starts with `root`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        field = (root + path.strip("`").removeprefix("$")).removeprefix(".") or None
        raise ServingError(400, "invalid_field", f"{message}; send {_EXAMPLE}", field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServingError(400, "invalid_json", f"the body is not JSON ({error}); send {_EXAMPLE}") from error


def _depth(raw: bytes) -> int:
    """Return the dimensions of a JSON array, counting up to 5: text that starts with `[[` has 2."""
    opening = re.match(rb"(?:\s*\[){0,5}", raw)
    return opening[0].count(b"[") if opening else 0


def _check_count(count: int) -> None:
    if count == 0:
        raise ServingError(400, "no_images", f"the request has no images; send 1 to {MAX_BATCH}")
    if count > MAX_BATCH:
        raise ServingError(400, "too_many_images", f"the request has {count} images; send at most {MAX_BATCH} at once")


def _check_range(images: NDArray[Any], name: str) -> None:
    # NaN compares as false, so this form of the check refuses it.
    inside = (images >= 0) & (images <= 1)
    if inside.all():
        return
    position = [int(index) for index in np.unravel_index(int(inside.argmin()), inside.shape)]
    value = images[tuple(position)]
    where = name + "".join(f"[{index}]" for index in position)
    remedy = "divide by 255, or send uint8 as npy" if 1 < value <= 255 else "send finite numbers from 0 to 1"
    raise ServingError(400, "out_of_range", f"{where} is {value:g}; values must be in 0..1: {remedy}", where)


def _encode(masks: Floats, wish: _Wish, single: bool) -> bytes:
    if wish.media_type == PNG:
        return encode_mask(binary_mask(masks[0, :, :, 0]))
    if wish.media_type == JSON:
        return _as_json(masks, single)
    arrays = binary_mask(masks) if wish.binary else masks
    return encode_npy(arrays[0] if single else arrays)


def _as_json(masks: Floats, single: bool) -> bytes:
    """Return `{"predictions": ...}` in TensorFlow Serving's shape: each image is a list of rows of `[probability]`.

    Every probability takes the same number of characters, so a single table lookup writes them all. Lists of Python
    floats take forty times as long.
    """
    levels = np.rint(masks[..., 0] * _SCALE).astype(np.intp).clip(0, _SCALE)
    rows = _CELLS[levels].reshape(len(masks), IMAGE_SIDE, -1)
    images = [b"[[" + b"],[".join(row[:-1].tobytes() for row in image) + b"]]" for image in rows]
    return b'{"predictions": ' + (images[0] if single else b"[" + b",".join(images) + b"]") + b"}"


def _cells() -> NDArray[np.uint8]:
    """Return the text `[0.1234],` of every level from 0 to _SCALE, as one row of bytes each."""
    text = "".join(f"[{level / _SCALE:.{PROBABILITY_DIGITS}f}]," for level in range(_SCALE + 1))
    return np.frombuffer(text.encode(), np.uint8).reshape(_SCALE + 1, -1)


_CELLS = _cells()


def _short(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape[:6]))}{', ...' if len(shape) > 6 else ''})"
