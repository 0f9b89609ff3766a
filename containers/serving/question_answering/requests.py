"""Questions and answers as JSON: one item gives one answer, a list of items gives a list."""

from collections.abc import Sequence

import msgspec

from containers.serving.bodies import without_mark
from containers.serving.errors import ServingError
from containers.serving.question_answering.answers import AnsweredQuestion, Item
from containers.serving.question_answering.windows import ContextTooLongError, RequestTooLongError

MAX_ITEMS = 64
"""Most questions in one request."""
MAX_WINDOWS = 128
"""Most windows in one request: two per item at MAX_ITEMS; SQuAD's questions rarely need more."""
MAX_CHARACTERS = 192 * 1024
"""Most characters of all questions and contexts in one request. English text of MAX_WINDOWS windows of 384 tokens has
about 120,000. The limit bounds the tokenizer's time to less than a second for any text."""
_EXAMPLE = '{"question": "...", "context": "..."}'


_ITEM, _ITEMS, _ENCODER = msgspec.json.Decoder(Item), msgspec.json.Decoder(list[Item]), msgspec.json.Encoder()


def decode_items(body: bytes, precision: str) -> tuple[list[Item], bool]:
    """Return the items of a request, and whether the request is a list; raises ServingError 400.

    precision: served precision; an item that asks for another one is refused.
    """
    body = without_mark(body)
    is_list = body.lstrip()[:1] == b"["
    try:
        items = _ITEMS.decode(body) if is_list else [_ITEM.decode(body)]
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".") or None
        raise ServingError(400, "invalid_field", f"{message}; send {_EXAMPLE} or a list of them", field) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServingError(
            400, "invalid_json", f"the body is not JSON ({error}); send {_EXAMPLE} or a list of them"
        ) from error
    if not items:
        raise ServingError(400, "empty_list", f"the list is empty; send {_EXAMPLE} or a list of them")
    if len(items) > MAX_ITEMS:
        raise ServingError(400, "too_many_items", f"the list has {len(items)} items; send at most {MAX_ITEMS} at once")
    characters = 0
    for index, item in enumerate(items):
        where = f"[{index}]" if is_list else ""
        characters += len(item.question) + len(item.context)
        if characters > MAX_CHARACTERS:
            raise _too_many_characters(item, where, characters)
        _check(item, where, precision)
    return items, is_list


def too_long_error(error: RequestTooLongError, *, is_list: bool) -> ServingError:
    """Return the 400 for a request that needs too many windows, naming the context that passed the limit."""
    return ServingError(400, error.code, str(error), f"[{error.item}].context" if is_list else "context")


def encode_answers(answers: Sequence[AnsweredQuestion], is_list: bool) -> bytes:
    """Return the answers as JSON: a list if the request was a list."""
    return _ENCODER.encode(answers if is_list else answers[0])


def _too_many_characters(item: Item, where: str, characters: int) -> ServingError:
    name = "question" if len(item.question) > len(item.context) else "context"
    alone = len(item.question) + len(item.context) > MAX_CHARACTERS
    subject = "this item has" if alone else "the items up to this one have"
    return ServingError(
        400,
        ContextTooLongError.code if alone else "too_many_characters",
        f"{subject} {characters} characters; a request may have at most {MAX_CHARACTERS}. Send fewer items or shorter "
        "contexts at once",
        f"{where}.{name}".lstrip("."),
    )


def _check(item: Item, where: str, precision: str) -> None:
    for name in ("question", "context"):
        if not getattr(item, name).strip():
            raise ServingError(
                400,
                "empty_field",
                f"{name} is empty; it must have at least one character",
                f"{where}.{name}".lstrip("."),
            )
    if item.precision is not None and item.precision.lower() != precision:
        raise ServingError(
            400,
            "wrong_precision",
            f"precision is {item.precision!r}, this variant serves {precision}; choose another with TargetVariant",
            f"{where}.precision".lstrip("."),
        )
