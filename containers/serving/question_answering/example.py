"""The example of a question-answering model: a question with its context, and the answer."""

from containers.serving.example import ExampleForm
from containers.serving.question_answering.answers import AnsweredQuestion, Item


def _difference(actual: AnsweredQuestion, recorded: AnsweredQuestion, tolerance: float) -> str:
    """Compare the answer's place, and its score within the tolerance."""
    same_place = (actual.answer, actual.start, actual.end) == (recorded.answer, recorded.start, recorded.end)
    if same_place and abs(actual.score - recorded.score) <= tolerance:
        return ""
    return f"{actual.answer!r} with score {actual.score:.3f} instead of {recorded.answer!r} with {recorded.score:.3f}"


QUESTION_ANSWERING = ExampleForm(Item, AnsweredQuestion, _difference)
