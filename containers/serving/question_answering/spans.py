"""Search for the best answer spans in the encoder's start and end logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from containers.serving.errors import ServingError
from containers.serving.question_answering.windows import TokenArray, Window

FloatArray = npt.NDArray[np.float32]
_MOST_AHEAD = 700.0
"""Logits by which "no answer" may lead before its probability rounds to 1; exp overflows a little above."""


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate answer.

    start, end: character range in the context, end exclusive; both 0 for "no answer".
    logit: start logit plus end logit.
    score: probability among all candidates of all windows, 0 to 1.
    """

    start: int
    end: int
    logit: float
    score: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """The best answer spans, best first, and "no answer" if it was asked for."""

    spans: list[Span]
    no_answer: Span | None = None


def best_spans(
    windows: Sequence[Window],
    logits: Sequence[tuple[FloatArray, FloatArray]],
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
    with_no_answer: bool = False,
) -> Candidates:
    """Return up to `n_best` answer spans, best first, each character range once.

    Every span of at most `max_answer_length` context tokens in every window is searched. Only context tokens are
    searched, so an answer never lies in the question. A character range that lies in several overlapping windows, or
    that several tokens share, counts once with its highest logit, both as a candidate and in the sum of the
    probabilities. If no window has context tokens, there are no spans.

    with_no_answer: whether the span of the first token, `[CLS]`, competes as "no answer". Its logit is the lowest of
        all windows, as in the SQuAD 2 scripts.
    logits: one (start, end) pair per window, each float32 of shape (tokens,), without padding.
    Raises ServingError 500 for logits that are not finite.
    Source: the n-best search and its defaults are those of the BERT SQuAD script and of the published recipe
    (n_best_size 20, max_answer_length 30).
    """
    searched = [each for each in zip(windows, logits, strict=True) if len(each[0].offsets)]
    if not searched:
        return Candidates([], Span(0, 0, 0.0, 1.0) if with_no_answer else None)
    if not all(np.isfinite(start).all() and np.isfinite(end).all() for _, (start, end) in searched):
        raise ServingError(500, "invalid_output", "the model's logits for this input are not finite numbers")
    table, offsets = _merged_table(searched, max_answer_length)
    if not _ranges_are_distinct(offsets):
        _keep_best_of_each_range(table, offsets)
    flat = table.ravel()
    highest = float(flat[flat.argmax()])
    no_answer = min(float(start[0] + end[0]) for _, (start, end) in searched) if with_no_answer else -np.inf
    mass = float(np.exp(flat - highest).sum())
    mass += float(np.exp(min(no_answer - highest, _MOST_AHEAD)))
    count = min(n_best, flat.size)
    best = [flat.argmax()] if count == 1 else np.argpartition(flat, -count)[-count:]
    spans = []
    for index in best:
        logit = float(flat[index])
        if np.isfinite(logit):
            first, length = divmod(int(index), table.shape[1])
            start, end = int(offsets[first, 0]), int(offsets[first + length, 1])
            spans.append(Span(start, end, logit, float(np.exp(logit - highest)) / mass))
    spans.sort(key=lambda span: (-span.logit, span.start, span.end))
    if not with_no_answer:
        return Candidates(spans)
    return Candidates(spans, Span(0, 0, no_answer, float(np.exp(min(no_answer - highest, _MOST_AHEAD))) / mass))


def _merged_table(
    searched: Sequence[tuple[Window, tuple[FloatArray, FloatArray]]], max_answer_length: int
) -> tuple[npt.NDArray[np.float64], TokenArray]:
    """Return the highest logit of every span of a context over its windows, and the context's offsets.

    Row i and column k of the table are the span from token i to token i + k of the context; -inf where no window
    holds all of it.
    """
    tables = [_span_table(window, start, end, max_answer_length) for window, (start, end) in searched]
    if len(searched) == 1:
        return tables[0], searched[0][0].offsets
    tokens = max(window.first_token + len(window.offsets) for window, _ in searched)
    merged = np.full((tokens, max_answer_length), -np.inf)
    offsets = np.zeros((tokens, 2), dtype=np.int64)
    for (window, _), table in zip(searched, tables, strict=True):
        own = slice(window.first_token, window.first_token + len(window.offsets))
        np.maximum(merged[own], table, out=merged[own])
        offsets[own] = window.offsets
    return merged, offsets


def _ranges_are_distinct(offsets: TokenArray) -> bool:
    """Return whether no two spans of tokens have the same characters, as in nearly every text."""
    return bool((offsets[1:] > offsets[:-1]).all())


def _keep_best_of_each_range(table: npt.NDArray[np.float64], offsets: TokenArray) -> None:
    """Set all but the highest logit of each character range to -inf.

    Tokens share characters when one character becomes several tokens, such as a Hangul syllable.
    """
    rows, columns = np.nonzero(table > -np.inf)
    starts, ends = offsets[rows, 0], offsets[rows + columns, 1]
    order = np.lexsort((-table[rows, columns], ends, starts))
    starts, ends = starts[order], ends[order]
    again = np.flatnonzero((starts[1:] == starts[:-1]) & (ends[1:] == ends[:-1])) + 1
    table[rows[order[again]], columns[order[again]]] = -np.inf


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
