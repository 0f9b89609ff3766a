"""Requests and answers of the bert_int8 image as JSON."""

from collections.abc import Callable

from containers.bert_int8.question_answering import QuestionAnswering
from containers.serving.app import Answer, Invocation
from containers.serving.errors import ServingError
from containers.serving.question_answering.requests import decode_items, encode_answers
from containers.serving.question_answering.windows import ContextTooLongError


def make_handler(model: QuestionAnswering, precision: str) -> Callable[[Invocation], Answer]:
    """The function that answers `/invocations`: one item in, one answer out; a list in, a list out."""
    attributes = f"precision={precision}"

    def handle(invocation: Invocation) -> Answer:
        items, is_list = decode_items(invocation.body, precision)
        try:
            answers = model.answer([(item.question, item.context) for item in items])
        except ContextTooLongError as error:
            raise ServingError(400, "context_too_long", str(error), "context") from error
        return Answer(encode_answers(answers, is_list), attributes=attributes)

    return handle
