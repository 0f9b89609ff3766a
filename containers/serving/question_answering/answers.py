"""From the encoder's logits to an answer in the context."""

from collections.abc import Sequence
from dataclasses import dataclass

from containers.serving.question_answering.spans import FloatArray, best_spans
from containers.serving.question_answering.windows import Window


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """An answer as it stands in the context.

    score: probability among all spans of the context, 0 to 1. start, end: character range, end exclusive.
    """

    answer: str
    score: float
    start: int
    end: int


def best_answer(
    context: str, windows: Sequence[Window], logits: Sequence[tuple[FloatArray, FloatArray]]
) -> AnsweredQuestion:
    """The best span of all windows of a context; the empty answer with score 0 where it has no token."""
    spans = best_spans(list(windows), list(logits), n_best=1)
    if not spans:
        return AnsweredQuestion("", 0.0, 0, 0)
    best = spans[0]
    return AnsweredQuestion(context[best.start : best.end], best.score, best.start, best.end)
