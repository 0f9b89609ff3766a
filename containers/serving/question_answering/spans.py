"""Search for the best answer spans in the encoder's start and end logits."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from containers.serving.question_answering.windows import Window

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate answer.

    start, end: character range in the context, end exclusive.
    logit: start logit plus end logit.
    score: probability among all valid spans of all windows, 0 to 1.
    """

    start: int
    end: int
    logit: float
    score: float


def best_spans(
    windows: list[Window],
    logits: list[tuple[FloatArray, FloatArray]],
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
) -> list[Span]:
    """Return up to `n_best` answer spans, best first, each character range once.

    Every span of at most `max_answer_length` context tokens in every window is searched. Only context tokens are
    searched, so an answer never lies in the question. If no window has context tokens, the list is empty.

    logits: one (start, end) pair per window, each float32 of shape (tokens,), without padding.
    Source: the n-best search and its defaults are those of the BERT SQuAD script and of the published recipe
    (n_best_size 20, max_answer_length 30).
    """
    tables = [
        _span_table(window, start, end, max_answer_length)
        for window, (start, end) in zip(windows, logits, strict=True)
        if len(window.offsets)
    ]
    if not tables:
        return []
    highest = max(float(table.item(table.argmax())) for table in tables)
    mass = sum(float(np.exp(table - highest).sum()) for table in tables)
    best_logits: dict[tuple[int, int], float] = {}
    searched = (window for window in windows if len(window.offsets))
    for window, table in zip(searched, tables, strict=True):
        flat = table.ravel()
        count = min(n_best, flat.size)
        best = [flat.argmax()] if count == 1 else np.argpartition(flat, -count)[-count:]
        for index in best:
            logit = float(flat[index])
            if not np.isfinite(logit):
                continue
            first, length = divmod(int(index), table.shape[1])
            key = (int(window.offsets[first, 0]), int(window.offsets[first + length, 1]))
            best_logits[key] = max(logit, best_logits.get(key, -np.inf))
    ranked = sorted(best_logits.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    return [Span(start, end, logit, float(np.exp(logit - highest)) / mass) for (start, end), logit in ranked]


def _span_table(window: Window, start: FloatArray, end: FloatArray, max_answer_length: int) -> npt.NDArray[np.float64]:
    """Return start[i] + end[i + k] for every context token i and extra length k; -inf past the last token."""
    context = window.context_slice
    starts = start[context].astype(np.float64)
    ends = np.full(len(starts) + max_answer_length - 1, -np.inf)
    ends[: len(starts)] = end[context]
    # Row i of the view is ends[i:]. sliding_window_view returns the same, but takes 20 times as long.
    (step,) = ends.strides
    view: npt.NDArray[np.float64] = np.ndarray((len(starts), max_answer_length), ends.dtype, ends, 0, (step, step))
    return starts[:, None] + view
