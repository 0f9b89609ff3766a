"""Check that a loaded model gives the same answer as at build time."""

from collections.abc import Callable

import msgspec

from containers.serving.errors import ServingError, StartupError
from containers.serving.manifest import Example
from containers.serving.question_answering.answers import AnsweredQuestion, Item

_SCORE_TOLERANCE = 0.05
"""Largest difference of a score, 0 to 1, attributed to another processor's rounding."""


def check_example(example: Example | None, answer: Callable[[Item], AnsweredQuestion]) -> None:
    """Answer the manifest's example, and raise StartupError if the answer differs from the one at build time.

    A model with random weights has no example, and is not checked.
    """
    if example is None:
        return
    try:
        item = msgspec.convert(example.request, Item)
        expected = msgspec.convert(example.response, AnsweredQuestion)
    except msgspec.ValidationError as error:
        raise StartupError(f"the manifest's example is not valid: {error}; rebuild the artifact") from error
    try:
        actual = answer(item)
    except (ServingError, ValueError) as error:
        raise StartupError(f"the model fails on the manifest's example: {error}; rebuild the artifact") from error
    same_place = (actual.answer, actual.start, actual.end) == (expected.answer, expected.start, expected.end)
    if not same_place or abs(actual.score - expected.score) > _SCORE_TOLERANCE:
        raise StartupError(
            f"the model does not answer the manifest's example as it did when it was built: {actual.answer!r} with "
            f"score {actual.score:.3f} instead of {expected.answer!r} with {expected.score:.3f}; rebuild the artifact "
            "with this image's version, or report the processor if it is a new one"
        )
