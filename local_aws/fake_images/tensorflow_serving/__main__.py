"""`serve` of the fake: model servers, a Python service if the archive has code/, and a reverse proxy for both."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from containers.serving.contract import HOST_VARIABLE, PORT_VARIABLE, ContainerPaths
from local_aws.fake_images.tensorflow_serving.backend import Backend, StartError
from local_aws.fake_images.tensorflow_serving.bundles import Bundle, find_models
from local_aws.fake_images.tensorflow_serving.handlers import SCRIPT
from local_aws.fake_images.tensorflow_serving.multi_model import MultiModel
from local_aws.fake_images.tensorflow_serving.packages import install
from local_aws.fake_images.tensorflow_serving.proxy import Proxy, not_found, proxy_client
from local_aws.fake_images.tensorflow_serving.settings import (
    LOADED_PATH,
    ContainerSettings,
    SettingsError,
    read_settings,
)
from local_aws.installer import CONTAINER_VARIABLE
from local_aws.processes import free_port

_PACKAGE = "local_aws.fake_images.tensorflow_serving"


@dataclass(frozen=True, slots=True)
class _Container:
    """Everything that the container runs, in the order in which it starts."""

    settings: ContainerSettings
    servers: Sequence[Backend]
    services: Sequence[Backend]
    default_model: str

    @classmethod
    def of(cls, settings: ContainerSettings, paths: ContainerPaths, scratch: Path) -> "_Container":
        """Return the container of a model archive; raise SettingsError, and OSError for an unreadable archive."""
        models = {} if settings.multi_model else find_models(paths.model)
        default = settings.default_model or next(iter(models), "None")
        if models and default not in models:
            raise SettingsError(
                f"SAGEMAKER_TFS_DEFAULT_MODEL_NAME is {default!r}, and the archive has no such model; it has: "
                f"{', '.join(models)}"
            )
        # Replicas share this machine's ports, so each gets free ones instead of those in the settings.
        ports = [(free_port(), free_port()) for _ in settings.ports]
        print(f"using ports {ports} for gRPC and REST instead of {list(settings.ports)}", flush=True)
        flags = [f"--model_config_file={_model_config(models, scratch)}", *_flags(settings, scratch)]
        ready = LOADED_PATH if settings.multi_model else f"/v1/models/{default}"
        servers = [
            _backend("model_server", rest, [f"--port={rpc}", f"--rest_api_port={rest}", *flags], ready)
            for rpc, rest in ports
        ]
        code = (paths.base if settings.multi_model else paths.model) / "code"
        return cls(settings, servers, list(_services(settings, code, ports, default, scratch)), default)

    def application(self, proxy: Proxy) -> Starlette:
        """Return the routes of the container's port."""
        routes = [Route("/ping", proxy.ping)]
        if self.settings.multi_model:
            models = MultiModel(proxy, self.settings.max_models)
            routes += [
                Route("/invocations", models.invocations, methods=["POST"]),
                Route("/models", models.load, methods=["POST"]),
                Route("/models", models.describe_all),
                Route("/models/{name}", models.describe),
                Route("/models/{name}", models.unload, methods=["DELETE"]),
                Route("/models/{name}/invoke", models.invoke, methods=["POST"]),
            ]
        else:
            routes.append(Route("/invocations", proxy.invocations, methods=["GET", "POST", "PUT"]))
        return Starlette(routes=routes, exception_handlers={404: not_found})

    async def serve(self) -> None:
        """Start everything, and serve until SIGTERM; raise StartError."""
        backends = (*self.servers, *self.services)
        async with proxy_client(self.settings.proxy_timeout_seconds) as client:
            tasks: list[asyncio.Task[None]] = []
            try:
                for group in (self.servers, self.services):
                    await asyncio.gather(*(backend.start(client) for backend in group))
                tasks = [asyncio.create_task(backend.keep()) for backend in backends]
                await _listen(self.application(Proxy(client, self.servers, self.services, self.default_model)))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*(backend.stop() for backend in reversed(backends)))


async def _listen(app: Starlette) -> None:
    config = uvicorn.Config(
        app,
        host=os.environ.get(HOST_VARIABLE, "127.0.0.1"),
        port=int(os.environ.get(PORT_VARIABLE, "8080")),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=25,
    )
    await uvicorn.Server(config).serve()


def _model_config(models: dict[str, Bundle], scratch: Path) -> Path:
    """Write the models in TensorFlow Serving's format."""
    text = "model_config_list {\n"
    for model in models.values():
        versions = " ".join(f"versions: {version}" for version in model.versions)
        name, base_path = (json.dumps(value, ensure_ascii=False) for value in (model.name, str(model.path)))
        text += f"  config {{\n    name: {name}\n    base_path: {base_path}\n"
        text += f"    model_platform: 'tensorflow'\n    model_version_policy {{ specific {{ {versions} }} }}\n  }}\n"
    path = scratch / "model-config.cfg"
    path.write_text(text + "}\n")
    return path


def _flags(settings: ContainerSettings, scratch: Path) -> Iterator[str]:
    if settings.intra_op_parallelism:
        yield f"--tensorflow_intra_op_parallelism={settings.intra_op_parallelism}"
    if settings.inter_op_parallelism:
        yield f"--tensorflow_inter_op_parallelism={settings.inter_op_parallelism}"
    if settings.batching is not None:
        path = scratch / "batching-config.cfg"
        path.write_text(settings.batching.text())
        yield "--enable_batching=true"
        yield f"--batching_parameters_file={path}"


def _services(
    settings: ContainerSettings, code: Path, ports: Sequence[tuple[int, int]], default: str, scratch: Path
) -> Iterator[Backend]:
    """Yield the workers of the Python service, which a container with code/ or with several models has."""
    requirements, lib = code / "requirements.txt", code / "lib"
    parts = (code / SCRIPT, requirements, lib)
    if not settings.multi_model and not any(part.exists() for part in parts):
        return
    python_path = [str(code)]
    if lib.is_dir():
        python_path.append(str(lib))
        if requirements.is_file():
            print("loading modules from code/lib, ignoring code/requirements.txt", flush=True)
    elif requirements.is_file():
        installed = scratch / "site-packages"
        install(requirements, installed)
        python_path.append(str(installed))
    arguments = [
        f"--code={code}",
        f"--rest_ports={','.join(str(rest) for _, rest in ports)}",
        f"--grpc_ports={','.join(str(rpc) for rpc, _ in ports)}",
        f"--default_model={default}",
        *(["--multi_model"] if settings.multi_model else []),
    ]
    for _ in range(settings.gunicorn_workers):
        port = free_port()
        yield _backend("python_service", port, [f"--port={port}", *arguments], "/ping", python_path)


def _backend(
    module: str, port: int, arguments: Sequence[str], ready_path: str, python_path: Sequence[str] = ()
) -> Backend:
    own = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = {
        # The settings for installing may hold a password, which is not for the archive's code.
        **{name: value for name, value in os.environ.items() if name != CONTAINER_VARIABLE},
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join([*python_path, *own]),
    }
    return Backend([sys.executable, "-m", f"{_PACKAGE}.{module}", *arguments], port, environment, ready_path)


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM; return 1 for settings or a model that cannot be served, 2 for an unknown command."""
    if arguments != ["serve"]:
        print(f"unknown command {' '.join(arguments) or '(none)'}: run `serve`", file=sys.stderr)
        return 2
    print("this is a fake of SageMaker's TensorFlow Serving container, on plain TensorFlow", flush=True)
    # uvicorn raises the signal again after it stops; a clean stop must still exit with 0.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    scratch = Path(os.environ.get("TMPDIR", "/tmp"))
    try:
        container = _Container.of(read_settings(os.environ), ContainerPaths.from_environment(), scratch)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(container.serve())
    except (SettingsError, StartError, OSError) as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
