"""Questions and answers as JSON: one item in, one answer out; a list in, a list out."""

from collections.abc import Sequence

import msgspec

from containers.serving.errors import ServingError
from containers.serving.question_answering.answers import AnsweredQuestion
from containers.serving.question_answering.windows import ContextTooLongError, RequestTooLongError

MAX_ITEMS = 64
"""Questions in one request."""
MAX_WINDOWS = 128
"""Windows of all items of one request: two for each of the most items, as questions of SQuAD rarely need more."""
MAX_CHARACTERS = 192 * 1024
"""Characters of all questions and contexts of one request. English text of MAX_WINDOWS windows of 384 tokens has about
120,000. It bounds the time of the tokenizer, which counts the tokens: less than a second for any text."""
_EXAMPLE = '{"question": "...", "context": "..."}'


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question about one context; `precision`, where given, must be the served artifact's."""

    question: str
    context: str
    precision: str | None = None


class AnswerItem(msgspec.Struct, frozen=True):
    """One answer; start and end are characters of the context, end exclusive; score is 0 to 1."""

    answer: str
    score: float
    start: int
    end: int


_ITEM, _ITEMS, _ENCODER = msgspec.json.Decoder(Item), msgspec.json.Decoder(list[Item]), msgspec.json.Encoder()


def decode_items(body: bytes, precision: str) -> tuple[list[Item], bool]:
    """The items of a request, and whether it is a list; raises ServingError 400.

    precision: what is served; an item that asks for another is refused.
    """
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
        raise ServingError(400, "empty_list", f"the list has no item; send {_EXAMPLE} or a list of them")
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
    """Return the 400 for a request that needs too many windows, naming the context at which it did."""
    return ServingError(400, error.code, str(error), f"[{error.item}].context" if is_list else "context")


def encode_answers(answers: Sequence[AnsweredQuestion], is_list: bool) -> bytes:
    """The answers as JSON, in the form that the request had."""
    encoded = [AnswerItem(a.answer, a.score, a.start, a.end) for a in answers]
    return _ENCODER.encode(encoded if is_list else encoded[0])


def _too_many_characters(item: Item, where: str, characters: int) -> ServingError:
    name = "question" if len(item.question) > len(item.context) else "context"
    alone = len(item.question) + len(item.context) > MAX_CHARACTERS
    subject = "this item has" if alone else "the items up to this one have"
    return ServingError(
        400,
        ContextTooLongError.code if alone else "too_many_characters",
        f"{subject} {characters} characters; a request may have {MAX_CHARACTERS}. Send fewer items or shorter contexts "
        "at once",
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
