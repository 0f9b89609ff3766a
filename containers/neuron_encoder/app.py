"""The FastAPI application of one process: its models by SageMaker's path and by the published ones."""

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
"""Header of /ping: which process answers, since another one may listen on a port that was thought to be free."""
logger = logging.getLogger("neuron_encoder")

PREDICTIONS = "/predictions_neuron_core_{core}/model_{model}"
ANSWERS = f"GET /ping, POST /invocations, POST {PREDICTIONS} and GET /metrics"
_BODY_SECONDS = 30.0
_BODY_BYTES = 64 * 2**20
"""What the bodies of a process may take together, from their first byte until they are answered."""
_BODY_READERS = 256
"""The front sends whole bodies, so that they arrive in part for moments only."""


class Gate:
    """What is in work, and whether anything new is let in."""

    def __init__(self) -> None:
        self.draining = False
        self.active = 0


def draining_error() -> ServingError:
    """What a request is refused with after SIGTERM."""
    return ServingError(503, "draining", "this server is stopping; send the request again", retry_after_seconds=1)


def create_app(answering: Answering, core: CoreGroup, metrics: Metrics, precision: str, gate: Gate) -> FastAPI:
    """Builds the application of a process whose models are loaded and warm."""
    app = FastAPI(
        title="neuron_encoder", exception_handlers={HTTPException: http_error(ANSWERS)}, docs_url=None, redoc_url=None
    )
    redirect_nothing(app)
    headers = {CUSTOM_ATTRIBUTES: f"precision={precision}"}
    bodies = Bodies(capacity_bytes=_BODY_BYTES, readers=_BODY_READERS, timeout_seconds=_BODY_SECONDS)
    this_process = {PROCESS_ID: str(os.getpid())}

    async def respond(request: Request, choose: Callable[[], int]) -> Response:
        model: int | None = None
        gate.active += 1
        arrived, body = Cancellation(), b""
        try:
            body = await bodies.read(request)
            started = time.perf_counter()
            if gate.draining:
                raise draining_error()
            model = choose()
            _check_media_type(request)
            items, is_list = decode_items(body, precision)
            answers = await while_wanted(request.receive, answering.answer(model, items), arrived)
            metrics.answered(model, time.perf_counter() - started)
            return Response(encode_answers(answers, is_list), media_type=JSON, headers=headers)
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
            bodies.release(body)
            gate.active -= 1

    async def invocations(request: Request) -> Response:
        """Answers with the model that has the least to do."""
        return await respond(request, answering.least_busy)

    async def predict(request: Request) -> Response:
        """Answers with one model of one NeuronCore."""
        core_name, model_name = request.path_params["core"], request.path_params["model"]
        return await respond(request, lambda: _model(core, answering.models, core_name, model_name))

    async def ping(request: Request) -> Response:
        """Healthy until it is told to stop, since nothing is served before it can answer."""
        del request
        return (
            error_response(draining_error())
            if gate.draining
            else Response(b"{}", media_type=JSON, headers=this_process)
        )

    async def prometheus(request: Request) -> Response:
        """All metrics of this process."""
        del request
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    app.add_api_route("/ping", ping, methods=["GET"], response_model=None)
    app.add_api_route("/metrics", prometheus, methods=["GET"], response_model=None)
    # Plain routes: FastAPI's own would look for dependencies and parameters in every request, and there are none.
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
    there = ", ".join(PREDICTIONS.format(core=number, model=model) for number in core.cores for model in range(models))
    raise ServingError(
        404, "not_found", f"{PREDICTIONS.format(core=core_name, model=model_name)}: this process has {there}"
    )
