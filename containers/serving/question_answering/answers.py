"""The best answer in a context, from the encoder's logits."""

from collections.abc import Sequence
from dataclasses import dataclass

from containers.serving.question_answering.spans import FloatArray, best_spans
from containers.serving.question_answering.windows import Window


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """An answer quoted from the context.

    score: probability among all spans of the context, 0 to 1.
    start, end: character range in the context, end exclusive.
    """

    answer: str
    score: float
    start: int
    end: int


def best_answer(
    context: str, windows: Sequence[Window], logits: Sequence[tuple[FloatArray, FloatArray]]
) -> AnsweredQuestion:
    """Return the best span of all windows of a context, or an empty answer with score 0 if it has no tokens."""
    spans = best_spans(list(windows), list(logits), n_best=1)
    if not spans:
        return AnsweredQuestion("", 0.0, 0, 0)
    best = spans[0]
    return AnsweredQuestion(context[best.start : best.end], best.score, best.start, best.end)
