"""Check that a loaded model responds to its manifest's example as it did at build time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from containers.serving.errors import StartupError
from containers.serving.manifest import Example
from containers.serving.messages import one_line

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class ExampleForm(Generic[Request, Response]):
    """The types of a workload's example.

    difference: returns how a response differs from the recorded one by more than the tolerance; empty if it does not.
    """

    request: type[Request]
    response: type[Response]
    difference: Callable[[Response, Response, float], str]


def check_example(
    example: Example | None, form: ExampleForm[Request, Response], respond: Callable[[Request], Response]
) -> None:
    """Respond to the manifest's example, and raise StartupError if the response is another than at build time.

    A model with random weights has no example, and is not checked.
    """
    if example is None:
        return
    try:
        request = msgspec.convert(example.request, form.request)
        recorded = msgspec.convert(example.response, form.response)
    except msgspec.ValidationError as error:
        raise StartupError(f"the manifest's example is not valid: {error}; rebuild the artifact") from error
    try:
        response = respond(request)
        difference = form.difference(response, recorded, example.tolerance)
    except Exception as error:
        raise StartupError(
            f"the model fails on the manifest's example: {one_line(error)}; rebuild the artifact"
        ) from error
    if difference:
        raise StartupError(
            f"the model does not answer the manifest's example as it did when it was built: {difference}; rebuild the "
            "artifact with this image's version, or report the processor if it is a new one"
        )
