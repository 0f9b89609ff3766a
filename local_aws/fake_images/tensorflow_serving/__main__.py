"""`serve` of the fake: model servers, a Python service if there is an inference.py, and a reverse proxy for both."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from containers.serving.contract import HOST_VARIABLE, PORT_VARIABLE, ContainerPaths
from local_aws.fake_images.tensorflow_serving.settings import (
    ContainerSettings,
    SettingsError,
    find_models,
    read_settings,
)
from local_aws.fake_images.tensorflow_serving.tfs import JSON, parse_attributes, predict_path, to_instances
from local_aws.processes import die_with_parent, free_port

_PACKAGE = "local_aws.fake_images.tensorflow_serving"
_RESTART_SECONDS = 1.0
_FORWARDED = ("content-type", "accept", "x-amzn-sagemaker-custom-attributes")


class Backend:
    """One child process that serves HTTP on loopback, restarted when it ends."""

    def __init__(self, command: Sequence[str], port: int, environment: dict[str, str], ready_path: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command, self._environment, self._ready_path = command, environment, ready_path
        self.process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep the process running."""
        while True:
            self.process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, preexec_fn=die_with_parent
            )
            code = await self.process.wait()
            print(f"{self._command[2].rpartition('.')[2]} ended with exit code {code}; restarting it", flush=True)
            await asyncio.sleep(_RESTART_SECONDS)

    async def ready(self, client: aiohttp.ClientSession) -> bool:
        """Return whether the process is ready."""
        try:
            async with client.get(self.url + self._ready_path, timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Stop the process."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            await self.process.wait()


class Front:
    """Reverse proxy for all backends, like nginx in SageMaker's container: `/ping`, and `/invocations` in turn."""

    def __init__(self, model_servers: Sequence[Backend], services: Sequence[Backend], default_model: str) -> None:
        self._model_servers, self._services, self._default_model = model_servers, services, default_model
        self._turn: Iterator[Backend] = itertools.cycle(services or model_servers)
        self._client: aiohttp.ClientSession | None = None

    @property
    def client(self) -> aiohttp.ClientSession:
        """HTTP session for the backends, created inside the event loop."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=60), auto_decompress=False
            )
        return self._client

    async def ping(self, _request: Request) -> Response:
        """Respond with 200 once every backend has its model, else 502."""
        states = await asyncio.gather(
            *(backend.ready(self.client) for backend in (*self._model_servers, *self._services))
        )
        return Response(status_code=200 if all(states) else 502)

    async def invocations(self, request: Request) -> Response:
        """Forward a request; without an inference.py, first convert it to TensorFlow Serving's JSON."""
        body = await request.body()
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        backend = next(self._turn)
        if self._services:
            return await self._forward(f"{backend.url}/invocations", body, headers)
        try:
            body = to_instances(body, request.headers.get("content-type", JSON))
            attributes = parse_attributes(request.headers.get("x-amzn-sagemaker-custom-attributes", ""))
            path = predict_path(attributes, self._default_model)
        except ValueError as error:
            return Response(msgspec.json.encode({"error": str(error)}), 400, media_type=JSON)
        return await self._forward(backend.url + path, body, {"content-type": JSON})

    async def _forward(self, url: str, body: bytes, headers: dict[str, str]) -> Response:
        try:
            async with self.client.post(url, data=body, headers=headers) as response:
                media_type = response.headers.get("content-type", JSON)
                return Response(await response.read(), response.status, media_type=media_type)
        except (aiohttp.ClientError, TimeoutError):
            message = "the model server ended or did not respond; it is being restarted"
            return Response(msgspec.json.encode({"error": message}), 502, media_type=JSON)


def _backends(settings: ContainerSettings, model_dir: Path, scratch: Path) -> tuple[list[Backend], list[Backend], str]:
    models = find_models(model_dir)
    default = settings.default_model or next(iter(models))
    config, parameters = scratch / "model-config.cfg", scratch / "batching-config.cfg"
    entries = "".join(
        f"  config: {{\n    name: '{name}'\n    base_path: '{path}'\n    model_platform: 'tensorflow'\n  }}\n"
        for name, path in models.items()
    )
    config.write_text(f"model_config_list: {{\n{entries}}}\n")
    flags = [f"--model_config_file={config}"]
    if settings.intra_op_parallelism:
        flags.append(f"--tensorflow_intra_op_parallelism={settings.intra_op_parallelism}")
    if settings.inter_op_parallelism:
        flags.append(f"--tensorflow_inter_op_parallelism={settings.inter_op_parallelism}")
    if settings.batching is not None:
        parameters.write_text(settings.batching.text())
        flags += ["--enable_batching=true", f"--batching_parameters_file={parameters}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    servers, grpc_ports = [], []
    for grpc_port, rest_port in settings.ports:
        # Replicas share this machine's ports, so each gets free ones instead of those in the settings.
        grpc_free, rest_free = free_port(), free_port()
        print(f"using ports {grpc_free} and {rest_free} instead of {grpc_port} and {rest_port}", flush=True)
        command = [
            sys.executable,
            "-m",
            f"{_PACKAGE}.model_server",
            f"--port={grpc_free}",
            f"--rest_api_port={rest_free}",
            *flags,
        ]
        servers.append(Backend(command, rest_free, environment, f"/v1/models/{default}"))
        grpc_ports.append(grpc_free)
    services: list[Backend] = []
    script = model_dir / "code" / "inference.py"
    if script.is_file():
        for index in range(settings.gunicorn_workers):
            port, server = free_port(), servers[index % len(servers)]
            command = [
                sys.executable,
                "-m",
                f"{_PACKAGE}.python_service",
                f"--script={script}",
                f"--port={port}",
                f"--rest_url={server.url}",
                f"--grpc_port={grpc_ports[index % len(servers)]}",
                f"--default_model={default}",
            ]
            services.append(Backend(command, port, environment, "/ping"))
    return servers, services, default


async def _serve(servers: Sequence[Backend], services: Sequence[Backend], default: str) -> None:
    front = Front(servers, services, default)
    app = Starlette(routes=[Route("/ping", front.ping), Route("/invocations", front.invocations, methods=["POST"])])
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=os.environ.get(HOST_VARIABLE, "127.0.0.1"),
            port=int(os.environ.get(PORT_VARIABLE, "8080")),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=25,
        )
    )
    children = [asyncio.create_task(backend.run()) for backend in (*servers, *services)]
    try:
        await server.serve()
    finally:
        for child in children:
            child.cancel()
        await asyncio.gather(*(backend.stop() for backend in (*services, *servers)))
        if front.client:
            await front.client.close()


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; return 1 for settings or a model that cannot be served, 2 for an unknown command."""
    if arguments != ["serve"]:
        print(f"unknown command {' '.join(arguments) or '(none)'}: run `serve`", file=sys.stderr)
        return 2
    print("this is a fake of SageMaker's TensorFlow Serving container, on plain TensorFlow", flush=True)
    scratch = Path(os.environ.get("TMPDIR", "/tmp"))
    try:
        backends = _backends(read_settings(os.environ), ContainerPaths.from_environment().model, scratch)
    except (SettingsError, OSError) as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        return 1
    # uvicorn raises the signal again after it stops; a clean stop must still exit with 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(*backends))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
