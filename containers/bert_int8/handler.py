"""Requests and answers of the bert_int8 image as JSON."""

from collections.abc import Callable

import msgspec

from containers.bert_int8.question_answering import QuestionAnswering
from containers.bert_int8.windows import ContextTooLongError
from containers.serving.app import Answer, Invocation
from containers.serving.errors import ServingError

MAX_ITEMS = 64
"""Questions in one request."""


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


_EXAMPLE = '{"question": "...", "context": "..."}'


def make_handler(model: QuestionAnswering, precision: str) -> Callable[[Invocation], Answer]:
    """The function that answers `/invocations`: one item in, one answer out; a list in, a list out."""
    attributes = f"precision={precision}"

    def handle(invocation: Invocation) -> Answer:
        items, is_list = _decode(invocation.body)
        for index, item in enumerate(items):
            _check(item, f"[{index}]" if is_list else "", precision)
        try:
            answers = model.answer([(item.question, item.context) for item in items])
        except ContextTooLongError as error:
            raise ServingError(400, "context_too_long", str(error), "context") from error
        encoded = [AnswerItem(a.answer, a.score, a.start, a.end) for a in answers]
        return Answer(msgspec.json.encode(encoded if is_list else encoded[0]), attributes=attributes)

    return handle


def _decode(body: bytes) -> tuple[list[Item], bool]:
    is_list = body.lstrip()[:1] == b"["
    try:
        items = msgspec.json.decode(body, type=list[Item]) if is_list else [msgspec.json.decode(body, type=Item)]
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
    return items, is_list


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
