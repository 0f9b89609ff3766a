"""The engine onnxruntime: ONNX Runtime on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from containers.serving.errors import StartupError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

MODEL_FILE = "model.onnx"
_OUTPUTS = ("start_logits", "end_logits")


def version() -> str:
    """Return the installed version of the onnxruntime package."""
    return str(ort.__version__)


def load(model_dir: Path, threads: int) -> "OnnxRuntimeEngine":
    """Open a session with `threads` intra-op threads on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return OnnxRuntimeEngine(
        ort.InferenceSession(str(model_dir / MODEL_FILE), options, providers=["CPUExecutionProvider"])
    )


def load_lanes(model_dir: Path, cores: int) -> Sequence["OnnxRuntimeEngine"]:
    """Return the same single-threaded session once per core; concurrent callers share it."""
    return [load(model_dir, 1)] * cores


class OnnxRuntimeEngine:
    """An inference session; ONNX Runtime's sessions are thread-safe."""

    packs = False

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._inputs = {node.name for node in session.get_inputs()}
        outputs = {node.name for node in session.get_outputs()}
        if not self._inputs <= set(EncoderBatch.INPUTS) or not outputs >= set(_OUTPUTS):
            raise StartupError(
                f"{MODEL_FILE} has inputs {', '.join(sorted(self._inputs))[:200]} and outputs "
                f"{', '.join(sorted(outputs))[:200]}: it must have inputs among {', '.join(EncoderBatch.INPUTS)} and "
                f"outputs {', '.join(_OUTPUTS)}; rebuild the artifact"
            )

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, each float32 of shape (rows, tokens)."""
        feed = {name: array for name, array in batch.arrays().items() if name in self._inputs}
        start, end = self._session.run(list(_OUTPUTS), feed)
        return np.asarray(start), np.asarray(end)
