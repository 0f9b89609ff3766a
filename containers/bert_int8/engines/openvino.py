"""OpenVINO runtime."""

from importlib import metadata
from pathlib import Path

import openvino as ov

from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

MODEL_FILE = "model.xml"


def version() -> str:
    """Installed version of the openvino package."""
    return metadata.version("openvino")


def load(model_dir: Path, threads: int) -> "OpenVinoEngine":
    """Compiles the model for one stream of `threads` threads."""
    model = ov.Core().compile_model(
        model_dir / MODEL_FILE,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            # bf16 is measurably less accurate and C6i has none: whoever wants it must gate it on its own.
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    return OpenVinoEngine(model)


class OpenVinoEngine:
    """A compiled model and its infer request."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self._names = [next(name for name in EncoderBatch.INPUTS if name in port.get_names()) for port in model.inputs]
        self._request = model.create_infer_request()

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Start and end logits, each float32 of shape (rows, tokens)."""
        arrays = batch.arrays()
        outputs = self._request.infer([arrays[name] for name in self._names], share_inputs=True)
        return outputs[0], outputs[1]
