"""The FastAPI application of one process, with SageMaker's path and the paths of the published system."""

import logging
import os
import time
from collections.abc import Callable

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from containers.neuron_encoder.answering import Answering
from containers.neuron_encoder.devices.core import CoreGroup
from containers.neuron_encoder.metrics import CONTENT_TYPE, Metrics
from containers.serving.app import CUSTOM_ATTRIBUTES, JSON, error_response, http_error, redirect_nothing
from containers.serving.bodies import Bodies
from containers.serving.cancellation import Cancellation, while_wanted
from containers.serving.errors import ServingError, where_it_failed
from containers.serving.question_answering.requests import decode_items, encode_answers

PROCESS_ID = "x-process-id"
"""Header of /ping that identifies the process, since another one may listen on a port that seemed free."""
logger = logging.getLogger("neuron_encoder")

PREDICTIONS = "/predictions_neuron_core_{core}/model_{model}"
ANSWERS = f"GET /ping, POST /invocations, POST {PREDICTIONS} and GET /metrics"
_BODY_SECONDS = 30.0
_BODY_BYTES = 64 * 2**20
"""Most bytes that the bodies of a process hold together, from first byte to response."""
_BODY_READERS = 256
"""Most partly received bodies. The reverse proxy sends whole bodies, so each is partly received only for a moment."""


class Gate:
    """The gate of a process: the number of requests in flight, and whether new ones are refused."""

    def __init__(self) -> None:
        self.draining = False
        self.active = 0


def draining_error() -> ServingError:
    """Return the 503 for a request that arrives after SIGTERM."""
    return ServingError(503, "draining", "this server is stopping; send the request again", retry_after_seconds=1)


class _Responder:
    """The path from a request to its response, which counts the request in the gate and the metrics."""

    def __init__(self, answering: Answering, metrics: Metrics, precision: str, gate: Gate) -> None:
        self._answering, self._metrics, self._precision, self._gate = answering, metrics, precision, gate
        self._headers = {CUSTOM_ATTRIBUTES: f"precision={precision}"}
        self._bodies = Bodies(capacity_bytes=_BODY_BYTES, readers=_BODY_READERS, timeout_seconds=_BODY_SECONDS)

    async def respond(self, request: Request, choose: Callable[[], int]) -> Response:
        """Return the response of the model that `choose` returns; every failure becomes a JSON error."""
        metrics = self._metrics
        model: int | None = None
        self._gate.active += 1
        arrived, body = Cancellation(), b""
        try:
            body = await self._bodies.read(request)
            started = time.perf_counter()
            if self._gate.draining:
                raise draining_error()
            model = choose()
            _check_media_type(request)
            items, is_list = decode_items(body, self._precision)
            answers = await while_wanted(request.receive, self._answering.answer(model, items), arrived)
            metrics.answered(model, time.perf_counter() - started)
            return Response(encode_answers(answers, is_list), media_type=JSON, headers=self._headers)
        except ServingError as error:
            metrics.failed(model, error.status, error.code)
            return error_response(error)
        except ClientDisconnect:
            metrics.failed(model, 499, "client_left")
            return Response(status_code=499)
        except Exception as error:
            logger.error("a request failed\n%s", where_it_failed(error))
            failure = ServingError(500, "internal_error", "the model failed on this input; see the container's log")
            metrics.failed(model, failure.status, failure.code)
            return error_response(failure)
        finally:
            self._bodies.release(body)
            self._gate.active -= 1


def create_app(answering: Answering, core: CoreGroup, metrics: Metrics, precision: str, gate: Gate) -> FastAPI:
    """Build the application of a process whose models are loaded and warm."""
    app = FastAPI(
        title="neuron_encoder", exception_handlers={HTTPException: http_error(ANSWERS)}, docs_url=None, redoc_url=None
    )
    redirect_nothing(app)
    responder = _Responder(answering, metrics, precision, gate)
    this_process = {PROCESS_ID: str(os.getpid())}

    async def invocations(request: Request) -> Response:
        """Respond with the least busy model."""
        return await responder.respond(request, answering.least_busy)

    async def predict(request: Request) -> Response:
        """Respond with one model of one NeuronCore."""
        core_name, model_name = request.path_params["core"], request.path_params["model"]
        return await responder.respond(request, lambda: _model(core, answering.models, core_name, model_name))

    async def ping(request: Request) -> Response:
        """Return 200 until SIGTERM: the server starts only once the models are loaded and warm."""
        del request  # FastAPI would read any other parameter from the query string.
        return (
            error_response(draining_error())
            if gate.draining
            else Response(b"{}", media_type=JSON, headers=this_process)
        )

    async def prometheus(request: Request) -> Response:
        """Return all metrics of this process."""
        del request  # FastAPI would read any other parameter from the query string.
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app.add_api_route("/ping", ping, methods=["GET"], response_model=None)
    app.add_api_route("/metrics", prometheus, methods=["GET"], response_model=None)
    # Plain routes: FastAPI's own resolve dependencies and parameters for every request, and these have none.
    app.add_route("/invocations", invocations, methods=["POST"])
    app.add_route(PREDICTIONS, predict, methods=["POST"])
    return app


def _check_media_type(request: Request) -> None:
    content_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if content_type != JSON:
        raise ServingError(415, "unsupported_media_type", f"Content-Type is {content_type!r}; send {JSON}")


def _model(core: CoreGroup, models: int, core_name: str, model_name: str) -> int:
    numbers = {str(number) for number in core.cores}
    if core_name in numbers and model_name in {str(model) for model in range(models)}:
        return int(model_name)
    served = ", ".join(PREDICTIONS.format(core=number, model=model) for number in core.cores for model in range(models))
    raise ServingError(
        404, "not_found", f"{PREDICTIONS.format(core=core_name, model=model_name)}: this process serves {served}"
    )
