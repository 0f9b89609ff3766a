"""What both rivals run: the compiled model, the tokenizer and the span search, with no padding in their favour."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from tokenizers import Encoding, Tokenizer

MODEL, TOKENIZER = "model.xml", "tokenizer.json"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_LONGEST, _LONGEST_ANSWER = 384, 30
Answer = dict[str, str | float | int]


class Model:
    """The model on all cores."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._compiled = ov.Core().compile_model(
            folder / MODEL,
            "CPU",
            {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"},
        )
        self._names = [next(n for n in _INPUTS if n in port.get_names()) for port in self._compiled.inputs]
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(_LONGEST, strategy="only_second")
        self._tokenizer.enable_padding()
        self._request = self._compiled.create_infer_request()

    def answer(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """The best span of each question's context, all in one batch; for one caller at a time."""
        encoded = self._tokenizer.encode_batch(list(pairs))
        arrays = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in encoded], dtype=np.int64),
        }
        outputs = self._request.infer([arrays[name] for name in self._names], share_inputs=True)
        return [
            _best(context, each, start, end)
            for (_, context), each, start, end in zip(pairs, encoded, outputs[0], outputs[1], strict=True)
        ]


def _best(context: str, encoded: Encoding, start: np.ndarray, end: np.ndarray) -> Answer:
    inside = np.array([sequence == 1 for sequence in encoded.sequence_ids])
    starts = np.where(inside, start, -np.inf)[:, None]
    sums = starts + np.where(inside, end, -np.inf)[None, :]
    allowed = np.triu(np.ones_like(sums, dtype=bool)) & ~np.triu(np.ones_like(sums, dtype=bool), _LONGEST_ANSWER)
    sums = np.where(allowed, sums, -np.inf)
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    weights = np.exp(sums - sums.max())
    begin, stop = encoded.offsets[first][0], encoded.offsets[last][1]
    return {"answer": context[begin:stop], "score": float(1 / weights.sum()), "start": begin, "end": stop}
