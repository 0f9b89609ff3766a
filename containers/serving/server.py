"""Run an ASGI application as SageMaker expects: `IMAGE serve`, drain on SIGTERM, exit code 0."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from containers.serving.connections import BoundedHttpProtocol
from containers.serving.contract import DEFAULT_PORT, HOST_VARIABLE, PORT_VARIABLE
from containers.serving.errors import StartupError
from containers.serving.limits import IDLE_SECONDS
from containers.serving.loopback import HOSTS, LoopbackOnly

GRACE_SECONDS = 25
"""Seconds to finish requests after SIGTERM; SageMaker sends SIGKILL 30 s after it."""


class _Server(uvicorn.Server):
    """A server that leaves signals to `serve`, since uvicorn raises them again after a clean stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main(create: Callable[[], ASGIApp], arguments: list[str]) -> int:
    """Run an image: check the command, create the application and serve it until SIGTERM.

    Returns the exit code: 2 for a wrong command, 1 with one line on stderr for a model that cannot be served.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
    if arguments != ["serve"]:
        print(f"unknown command {' '.join(arguments) or '(none)'}: this image is run as `IMAGE serve`", file=sys.stderr)
        return 2
    try:
        app = create()
        port = bind_port()
    except StartupError as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        return 1
    # Loaded objects stay, so the garbage collector need not scan them after each large request.
    gc.collect()
    gc.freeze()
    host = os.environ.get(HOST_VARIABLE, "0.0.0.0")  # noqa: S104 - SageMaker connects from outside the container
    if host in HOSTS:
        app = LoopbackOnly(app)
    # uvloop if it is installed, as uvicorn itself would choose.
    with asyncio.Runner(loop_factory=_config(app, host, port).get_loop_factory()) as runner:
        runner.run(serve(app, host, port))
    return 0


def bind_port() -> int:
    """Return the port in SAGEMAKER_BIND_TO_PORT, 8080 by default; raises StartupError for an invalid one."""
    value = os.environ.get(PORT_VARIABLE, str(DEFAULT_PORT))
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise StartupError(f"{PORT_VARIABLE} is {value!r}: it must be a port number from 1 to 65535")
    return int(value)


def _config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        http=BoundedHttpProtocol,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=512,
    )


async def serve(
    app: ASGIApp, host: str, port: int, *, before_stop: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Serve until SIGTERM, then finish the requests in flight.

    before_stop: awaited after the signal, while the server still responds, to refuse new requests.
    """
    server = _Server(_config(app, host, port))
    stopping: asyncio.Task[None] | None = None

    async def stop() -> None:
        if before_stop is not None:
            await before_stop()
        server.should_exit = True

    def received_signal() -> None:
        nonlocal stopping
        stopping = stopping or asyncio.ensure_future(stop())

    loop = asyncio.get_running_loop()
    for received in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(received, received_signal)
    await server.serve()
