"""The best answer in a context, from the encoder's logits."""

import unicodedata
from collections.abc import Sequence

import msgspec

from containers.serving.question_answering.spans import FloatArray, best_spans
from containers.serving.question_answering.windows import Window


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question about one context.

    precision: if given, must be that of the served artifact.
    handle_impossible_answer: whether the answer may be empty because the context does not contain one (the Hugging
        Face pipeline's name). It needs a model that was trained on unanswerable questions, as in SQuAD 2.
    null_score_diff_threshold: logits by which "no answer" must exceed the best span to be chosen (the name and the
        rule of the SQuAD 2 evaluation script).
    """

    question: str
    context: str
    precision: str | None = None
    handle_impossible_answer: bool = False
    null_score_diff_threshold: float = 0.0


class AnsweredQuestion(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer quoted from the context.

    score: probability among all spans of the context, and "no answer" if that was asked for; 0 to 1.
    start, end: character range in the context, end exclusive; both 0 for an empty answer.
    no_answer_score: probability that the context has no answer; only if it was asked for.
    question_truncated: whether the end of the question did not fit the model and was not read.
    """

    answer: str
    score: float
    start: int
    end: int
    no_answer_score: float | None = None
    question_truncated: bool = False


def answers(
    items: Sequence[Item], windows: Sequence[Sequence[Window]], logits: Sequence[tuple[FloatArray, FloatArray]]
) -> list[AnsweredQuestion]:
    """Return the answer to each item; an empty one with score 0 if its context has no tokens.

    windows: those of each item.
    logits: one (start, end) pair per window, those of the first item's windows first.
    Raises ServingError 500 for logits that are not finite.
    """
    found, position = [], 0
    for item, own in zip(items, windows, strict=True):
        found.append(_best_answer(item, own, logits[position : position + len(own)]))
        position += len(own)
    return found


def _best_answer(
    item: Item, windows: Sequence[Window], logits: Sequence[tuple[FloatArray, FloatArray]]
) -> AnsweredQuestion:
    truncated = any(window.question_truncated for window in windows)
    found = best_spans(windows, logits, n_best=1, with_no_answer=item.handle_impossible_answer)
    no_answer = found.no_answer.score if found.no_answer is not None else None
    empty = found.no_answer is not None and (
        not found.spans or found.no_answer.logit - found.spans[0].logit > item.null_score_diff_threshold
    )
    if empty or not found.spans:
        return AnsweredQuestion("", no_answer or 0.0, 0, 0, no_answer, truncated)
    best = found.spans[0]
    start, end = whole_characters(item.context, best.start, best.end)
    return AnsweredQuestion(item.context[start:end], best.score, start, end, no_answer, truncated)


def whole_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """Extend a range so that no combining mark is cut from its letter.

    Tokenizers that strip marks, such as BERT's uncased one, end a token before the marks that follow its last letter.
    """
    while 0 < start < end and unicodedata.category(text[start]).startswith("M"):
        start -= 1
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return start, end
