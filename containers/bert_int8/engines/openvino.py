"""OpenVINO runtime."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import openvino as ov

from containers.serving.errors import StartupError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

MODEL_FILE = "model.xml"


def version() -> str:
    """Installed version of the openvino package."""
    return metadata.version("openvino")


def load(model_dir: Path, threads: int) -> "OpenVinoEngine":
    """Compiles the model for one stream of `threads` threads."""
    return OpenVinoEngine(compiled(model_dir, 1, threads))


def load_lanes(model_dir: Path, cores: int) -> Sequence["OpenVinoEngine"]:
    """Compiles the model for a stream of one thread on each core."""
    model = compiled(model_dir, cores, cores)
    return [OpenVinoEngine(model) for _ in range(cores)]


def compiled(model_dir: Path, streams: int, threads: int, precision: str = "f32") -> ov.CompiledModel:
    """The model for so many streams, on so many threads altogether.

    precision: of what is not quantized. bf16 is measurably less accurate and C6i has none: whoever wants it must gate
    it on its own.
    """
    return ov.Core().compile_model(
        model_dir / MODEL_FILE,
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": precision,
        },
    )


class OpenVinoEngine:
    """A stream of a compiled model."""

    packs = False

    def __init__(self, model: ov.CompiledModel) -> None:
        self._names = _input_names(model)
        self._request = model.create_infer_request()

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Start and end logits, each float32 of shape (rows, tokens)."""
        arrays = batch.arrays()
        outputs = self._request.infer([arrays[name] for name in self._names], share_inputs=True)
        return outputs[0], outputs[1]


def _input_names(model: ov.CompiledModel) -> list[str]:
    found = [name for port in model.inputs for name in EncoderBatch.INPUTS if name in port.get_names()]
    if len(found) != len(model.inputs) or "input_ids" not in found or len(model.outputs) != 2:
        names = ", ".join(sorted({name for port in model.inputs for name in port.get_names()})) or "no names"
        raise StartupError(
            f"{MODEL_FILE} has inputs {names[:200]} and {len(model.outputs)} outputs: it must have inputs of "
            f"{', '.join(EncoderBatch.INPUTS)} and two outputs; rebuild the artifact"
        )
    return found
