"""The OpenVINO engine of the saved_model image."""

from collections import deque
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from containers.saved_model.signature import CHANNELS, IMAGE_SIDE, INPUT_NAME, MODEL_FILE, OUTPUT_NAME
from containers.serving.errors import ServingError, StartupError

ENGINE_NAME = "openvino"
_SHAPE = (1, IMAGE_SIDE, IMAGE_SIDE, CHANNELS)
_PRECISION_HINTS = {
    # The other layers of an INT8 model stay in f32: no accuracy gate has tested them in bf16.
    "int8": "f32",
    "fp32": "f32",
    "bf16": "bf16",
}


class Segmenter(Protocol):
    """A loaded model; `segment` may be called from several threads."""

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities of shape (rows, 224, 224, 1) for images of shape (rows, 224, 224, 3), values 0 to 1."""


def probabilities(model: Segmenter, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the masks of images; raises ServingError 500 for probabilities that are not finite.

    They would be black in a PNG and 0 in JSON.
    """
    masks = model.segment(pixels)
    if not np.isfinite(masks).all():
        raise ServingError(500, "invalid_output", "the model's probabilities for this image are not finite numbers")
    return masks


def version() -> str:
    """Return the installed version of the openvino package."""
    return metadata.version("openvino")


def load(model_dir: Path, precision: str, threads: int, streams: int = 1) -> "OpenVinoSegmenter":
    """Compile the model of an archive, and warm it up.

    precision: "int8", "bf16" or "fp32".
    streams: images computed at the same time, each on threads / streams threads.
    Raises StartupError for another precision, a model with another signature, and a precision that the processor does
    not support.
    """
    if precision not in _PRECISION_HINTS:
        raise StartupError(f"the artifact's precision is {precision!r}, this image runs {', '.join(_PRECISION_HINTS)}")
    hint = _PRECISION_HINTS[precision]
    core = ov.Core()
    try:
        model = core.read_model(model_dir / MODEL_FILE)
    except RuntimeError as error:
        raise StartupError(f"{MODEL_FILE} cannot be read ({_reason(error)}); rebuild the artifact") from error
    _check_signature(model)
    try:
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": str(streams),
                "INFERENCE_NUM_THREADS": str(threads),
                "INFERENCE_PRECISION_HINT": hint,
            },
        )
    except RuntimeError as error:
        raise StartupError(
            f"{precision} does not run on this processor ({_reason(error)}); use C6i or newer"
        ) from error
    if (actual := compiled.get_property("INFERENCE_PRECISION_HINT").to_string()) != hint:
        raise StartupError(f"this processor computes in {actual} where {precision} needs {hint}: use C6i or newer")
    return OpenVinoSegmenter(compiled, streams)


class OpenVinoSegmenter:
    """A compiled model with a pool of infer requests, which grows with the number of concurrent callers."""

    def __init__(self, model: ov.CompiledModel, streams: int) -> None:
        self._model = model
        # A request's first inference allocates the memory for all later ones.
        requests = [model.create_infer_request() for _ in range(streams)]
        for request in requests:
            request.infer([np.zeros(_SHAPE, np.float32)])
        self._idle = deque(requests)

    def segment(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return probabilities of shape (rows, 224, 224, 1), computed one image at a time.

        With convolutions this large, a batch is no faster than its images one by one, and takes more memory at once.
        """
        try:
            # The most recently used request, whose memory may still be cached.
            request = self._idle.pop()
        except IndexError:
            request = self._model.create_infer_request()
        try:
            masks = np.empty((*images.shape[:3], 1), np.float32)
            for row in range(len(images)):
                masks[row] = request.infer([images[row : row + 1]], share_inputs=True, share_outputs=True)[0][0]
            return masks
        finally:
            self._idle.append(request)


def _check_signature(model: ov.Model) -> None:
    inputs = [(port.get_names(), port.get_partial_shape(), port.get_element_type()) for port in model.inputs]
    outputs = [(port.get_names(), port.get_partial_shape(), port.get_element_type()) for port in model.outputs]
    for ports, name, shape in ((inputs, INPUT_NAME, _SHAPE), (outputs, OUTPUT_NAME, (*_SHAPE[:3], 1))):
        if (
            len(ports) != 1
            or name not in ports[0][0]
            or ports[0][1] != ov.PartialShape(shape)
            or ports[0][2] != ov.Type.f32
        ):
            raise StartupError(
                f"{MODEL_FILE} must have one float32 tensor {name!r} of shape {shape}; rebuild the artifact"
            )


def _reason(error: RuntimeError) -> str:
    """Return the last line of OpenVINO's error; the earlier lines name its source files."""
    return str(error).strip().splitlines()[-1][:200]
