"""The model that both rivals run: our engine, the tokenizer and the span search, without padding, in their favor."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from containers.encoder.engines.vnni import load
from containers.serving.question_answering.windows import EncoderBatch

TOKENIZER = "tokenizer.json"
_LONGEST, _LONGEST_ANSWER = 384, 30
Answer = dict[str, str | float | int]


class Model:
    """The model on all cores."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._engine = load(folder, threads)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.enable_truncation(_LONGEST, strategy="only_second")
        self._tokenizer.enable_padding()

    def answer(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """Return the best span of each question's context, all in one batch; for one caller at a time."""
        encoded = self._tokenizer.encode_batch(list(pairs))
        ids, mask, types = (
            np.array([getattr(each, name) for each in encoded], dtype=np.int64)
            for name in ("ids", "attention_mask", "type_ids")
        )
        starts, ends = self._engine.infer(EncoderBatch(ids, mask, types))
        return [
            _best(context, each, start, end)
            for (_, context), each, start, end in zip(pairs, encoded, starts, ends, strict=True)
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
