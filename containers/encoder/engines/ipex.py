"""TorchScript with Intel Extension for PyTorch 2.8, in its own image since the extension is discontinued."""

from pathlib import Path

import intel_extension_for_pytorch as ipex  # its import registers the INT8 operators that the saved graph uses
import torch

from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

MODEL_FILE = "model.pt"


def version() -> str:
    """Return the installed version of intel-extension-for-pytorch, without its local build label."""
    return str(ipex.__version__).partition("+")[0]


def load(model_dir: Path, threads: int) -> "IpexEngine":
    """Load the frozen graph for `threads` OpenMP threads."""
    torch.set_num_threads(threads)
    return IpexEngine(torch.jit.freeze(torch.jit.load(model_dir / MODEL_FILE).eval()))


class IpexEngine:
    """A frozen TorchScript graph."""

    packs = False

    def __init__(self, graph: torch.jit.ScriptModule) -> None:
        self._graph = graph

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, each float32 of shape (rows, tokens)."""
        arrays = batch.arrays()
        with torch.inference_mode():
            start, end = self._graph(*(torch.from_numpy(arrays[name]) for name in EncoderBatch.INPUTS))
        return start.float().numpy(), end.float().numpy()
