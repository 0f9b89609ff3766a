"""The saved_model image's application with a fake model, and pictures and arrays to send to it."""

import asyncio
import io
import json
import struct
import zlib
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from containers.saved_model.engine import Segmenter
from containers.saved_model.handler import CONTENT_TYPES, make_handler
from containers.serving.app import ServingOptions, create_app

JSON, NPY, JPEG = "application/json", "application/x-npy", "image/jpeg"
SIDE = 224
Pixels = NDArray[np.uint8]


class BrightIsForeground:
    """A model whose probability is each pixel's brightness."""

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert images.min() >= 0
        assert images.max() <= 1
        brightness: NDArray[np.float32] = images.mean(axis=-1, keepdims=True, dtype=np.float32)
        return brightness


class NoNumbers:
    """A model whose probabilities are no numbers."""

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full((*images.shape[:3], 1), np.nan, np.float32)


def picture(seed: int = 0) -> Pixels:
    """Squares of 16 pixels, each dark or bright."""
    squares = np.random.default_rng(seed).choice(np.array([40, 220], np.uint8), (14, 14, 1))
    return squares.repeat(16, 0).repeat(16, 1).repeat(3, 2)


PICTURE = picture()
TRUTH = np.where(PICTURE[..., 0] > 127, 255, 0).astype(np.uint8)


def encoded(pixels: Pixels | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(stream, kind, **options)
    return stream.getvalue()


def announced(width: int, height: int, *, depth: int = 8) -> bytes:
    """A PNG that says it has that size and has next to no data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def npy(array: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def send(*requests: tuple[bytes, dict[str, str]], model: Segmenter | None = None) -> list[httpx.Response]:
    handler = make_handler(model or BrightIsForeground(), "int8")
    app = create_app(handler, ServingOptions(content_types=CONTENT_TYPES))

    async def go() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            return [await client.post("/invocations", content=body, headers=headers) for body, headers in requests]

    return asyncio.run(go())


def invoke(
    body: bytes | object, content_type: str = JSON, accept: str = "*/*", model: Segmenter | None = None
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send((content, {"content-type": content_type, "accept": accept}), model=model)[0]


PLAIN = encoded(PICTURE)
JPG = encoded(PICTURE, "JPEG")
