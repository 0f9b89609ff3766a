"""The engine openvino: OpenVINO on the CPU."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import openvino as ov

from containers.serving.errors import StartupError
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch

MODEL_FILE = "model.xml"


def version() -> str:
    """Return the installed version of the openvino package."""
    return metadata.version("openvino")


def load(model_dir: Path, threads: int) -> "OpenVinoEngine":
    """Compile the model for one stream of `threads` threads."""
    words = _words(ov.Core().read_model(model_dir / MODEL_FILE))
    return OpenVinoEngine(compiled(model_dir, 1, threads), words)


def load_lanes(model_dir: Path, cores: int) -> Sequence["OpenVinoEngine"]:
    """Compile the model for one single-threaded stream per core."""
    model = compiled(model_dir, cores, cores)
    return [OpenVinoEngine(model) for _ in range(cores)]


def compiled(model_dir: Path, streams: int, threads: int, precision: str = "f32") -> ov.CompiledModel:
    """Compile the model for `streams` streams on `threads` threads in total.

    precision: precision of the operations that are not quantized, "f32" or "bf16". bf16 is measurably less accurate and
        C6i does not have it, so an artifact that uses it needs its own accuracy gate.
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
    """A stream of a compiled model.

    words: number of token ids with an embedding, or None if unknown.
    """

    packs = False

    def __init__(self, model: ov.CompiledModel, words: int | None = None) -> None:
        self._words = words
        self._names = _input_names(model)
        self._request = model.create_infer_request()

    def check_fits(self, words: int, max_seq_length: int) -> None:
        """Raise StartupError if the model has fewer than `words` token ids; the warm-up checks the positions."""
        del max_seq_length  # The protocol has it; only the warm-up can check it.
        if self._words is not None and words > self._words:
            raise StartupError(
                f"the tokenizer's highest token id plus one is {words}, {MODEL_FILE} has {self._words} embeddings; "
                "rebuild the artifact with model_build"
            )

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, each float32 of shape (rows, tokens)."""
        arrays = batch.arrays()
        outputs = self._request.infer([arrays[name] for name in self._names], share_inputs=True)
        return outputs[0], outputs[1]


def _words(model: ov.Model) -> int | None:
    """Return the rows of the token embedding table, or None; OpenVINO reports no error for an id beyond them."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Gather":
            continue
        source = node.input_value(1).get_node()
        while source.get_type_name() == "Convert":
            source = source.input_value(0).get_node()
        table = node.get_input_partial_shape(0)
        if "input_ids" in source.output(0).get_names() and table.rank.is_static and table[0].is_static:
            rows: int = table[0].get_length()
            return rows
    return None


def _input_names(model: ov.CompiledModel) -> list[str]:
    known = [name for port in model.inputs for name in EncoderBatch.INPUTS if name in port.get_names()]
    if len(known) != len(model.inputs) or "input_ids" not in known or len(model.outputs) != 2:
        names = ", ".join(sorted({name for port in model.inputs for name in port.get_names()})) or "no names"
        raise StartupError(
            f"{MODEL_FILE} has inputs {names[:200]} and {len(model.outputs)} outputs: it must have inputs among "
            f"{', '.join(EncoderBatch.INPUTS)} and two outputs; rebuild the artifact"
        )
    return known
