"""A virtual NeuronCore with real answers, from OpenVINO on the host's processor."""

from importlib import metadata
from pathlib import Path

import openvino as ov

from containers.neuron_encoder.artifact import INPUTS, NeuronArtifact
from containers.neuron_encoder.devices.core import CoreGroup
from containers.serving.errors import StartupError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

ENGINE = "openvino"


def version() -> str:
    """Return the installed version of the openvino package."""
    return metadata.version("openvino")


class CpuDevice:
    """A compiled model per file of the buckets, each with one infer request, since a core runs one batch at a time."""

    def __init__(self, requests: dict[tuple[int, int], tuple[ov.InferRequest, tuple[str, ...]]], core: CoreGroup):
        self._requests = requests
        self._core = core

    @classmethod
    def load(cls, model_dir: Path, artifact: NeuronArtifact, core: CoreGroup, threads: int) -> "CpuDevice":
        """Compile every file for `threads` threads; raises StartupError for an artifact of another target."""
        if artifact.target != "cpu":
            raise StartupError(
                f"the artifact is traced for {artifact.target}: the device cpu runs only artifacts of target cpu; "
                "build one, or set NEURON_ENCODER_DEVICE to neuron or timed"
            )
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        runtime = ov.Core()
        compiled = {}
        for file in {bucket.file for bucket in artifact.buckets}:
            model = runtime.compile_model(model_dir / file, "CPU", options)
            names = tuple(next(name for name in INPUTS if name in port.get_names()) for port in model.inputs)
            compiled[file] = (model.create_infer_request(), names)
        return cls({(bucket.length, bucket.batch): compiled[bucket.file] for bucket in artifact.buckets}, core)

    def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, float32 of shape (rows, tokens)."""
        rows, length = batch.input_ids.shape
        request, names = self._requests[length, rows]
        arrays = batch.arrays()

        def infer() -> tuple[FloatArray, FloatArray]:
            outputs = request.infer([arrays[name] for name in names], share_inputs=True)
            # The next batch overwrites the request's own memory.
            return outputs[0].copy(), outputs[1].copy()

        return self._core.run(infer)
