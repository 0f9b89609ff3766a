"""AWS's JSON 1.1 protocol: a target names the operation, and the body holds its input."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from local_aws.hosting.errors import ApiError
from local_aws.hosting.service_model import ServiceModel, json_document

logger = logging.getLogger("api")
Document = dict[str, Any]
_MEDIA_TYPE = "application/x-amz-json-1.1"


@dataclass(frozen=True, slots=True)
class JsonService:
    """One service: its model, and what responds to a checked request; `handle` raises ApiError."""

    model: ServiceModel
    handle: Callable[[str, Document], Document]
    operations: frozenset[str]

    def respond(self, operation: str, request: Document, *, text: bool = False) -> Document:
        """Respond to one operation; raise ApiError. text: as in `ServiceModel.check_input`."""
        if operation in self.operations:
            request = self.model.check_input(operation, request, text=text)
        return self.model.output(operation, self.handle(operation, request))


class JsonApi:
    """Handler of POST / for several services, by the prefix of their targets."""

    def __init__(self, services: dict[str, JsonService]) -> None:
        self._services = services

    async def respond(self, request: Request) -> Response:
        """Respond to one request, to every error in the protocol's form."""
        target = request.headers.get("x-amz-target", "")
        try:
            service, _, operation = target.rpartition(".")
            if service not in self._services:
                raise ApiError("UnknownOperationException", f"there is no target {target[:100]!r}")
            # CloudFormation's handlers in the emulator pass on what a template says, in plain JSON.
            text = request.headers.get("content-type") != _MEDIA_TYPE
            body = json_document(await request.body())
            return JSONResponse(self._services[service].respond(operation, body, text=text), media_type=_MEDIA_TYPE)
        except ApiError as error:
            return _error(error)
        except KeyError as error:
            return _error(ApiError("ValidationException", f"{error.args[0]} is missing"))
        except Exception as error:
            logger.exception("%s failed", target)
            return _error(ApiError("InternalFailure", f"{type(error).__name__} in the local account: {error}", 500))


def _error(error: ApiError) -> Response:
    return JSONResponse({"__type": error.code, "message": str(error)}, error.status, media_type=_MEDIA_TYPE)
