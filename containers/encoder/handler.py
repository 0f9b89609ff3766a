"""Requests and responses of the encoder image as JSON."""

from collections.abc import Callable

from containers.encoder.question_answering import QuestionAnswering
from containers.serving.app import Answer, Invocation
from containers.serving.question_answering.requests import MAX_WINDOWS, decode_items, encode_answers, too_long_error
from containers.serving.question_answering.windows import RequestTooLongError


def make_handler(model: QuestionAnswering, precision: str) -> Callable[[Invocation], Answer]:
    """Return the handler of `/invocations`: one item gives one answer, a list of items gives a list."""
    attributes = f"precision={precision}"

    def handle(invocation: Invocation) -> Answer:
        # The client may have left while the request waited for a thread.
        invocation.cancellation.check()
        items, is_list = decode_items(invocation.body, precision)
        try:
            answers = model.answer(items, max_windows=MAX_WINDOWS, cancellation=invocation.cancellation)
        except RequestTooLongError as error:
            raise too_long_error(error, is_list=is_list) from error
        return Answer(encode_answers(answers, is_list), attributes=attributes)

    return handle
