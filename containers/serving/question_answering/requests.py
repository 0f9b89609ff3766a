"""Questions and answers as JSON: one item in, one answer out; a list in, a list out."""

from collections.abc import Sequence

import msgspec

from containers.serving.errors import ServingError
from containers.serving.question_answering.answers import AnsweredQuestion

MAX_ITEMS = 64
"""Questions in one request."""
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
    for index, item in enumerate(items):
        _check(item, f"[{index}]" if is_list else "", precision)
    return items, is_list


def encode_answers(answers: Sequence[AnsweredQuestion], is_list: bool) -> bytes:
    """The answers as JSON, in the form that the request had."""
    encoded = [AnswerItem(a.answer, a.score, a.start, a.end) for a in answers]
    return _ENCODER.encode(encoded if is_list else encoded[0])


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
