"""Entry point of the neuron_encoder image: `serve` runs the whole container, `core` one of its processes."""

import asyncio
import logging
import os
import sys

import uvloop

from containers.neuron_encoder.layout import processes
from containers.neuron_encoder.process import HOST, check_artifact, run
from containers.neuron_encoder.settings import Settings
from containers.neuron_encoder.supervisor import Supervisor
from containers.serving.contract import HOST_VARIABLE, ContainerPaths
from containers.serving.cpu import available_cores
from containers.serving.errors import StartupError
from containers.serving.server import bind_port

_USAGE = "this image is run as `IMAGE serve`, which starts its processes as `core FIRST-LAST PORT THREADS`"


def main(arguments: list[str]) -> int:
    """Run a command and return its exit code.

    The code is 2 for a wrong command, and 1 with one line on stderr for an artifact or settings that cannot be served.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stdout)
    try:
        match arguments:
            case ["serve"]:
                _serve(Settings.from_environment())
                return 0
            case ["core", cores, port, threads]:
                first, last = (int(core) for core in cores.split("-"))
                return run(Settings.from_environment(), tuple(range(first, last + 1)), int(port), int(threads))
    except StartupError as error:
        print(f"cannot serve: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"unknown command {' '.join(arguments) or '(none)'}: {_USAGE}", file=sys.stderr)
    return 2


def _serve(settings: Settings) -> None:
    port = bind_port()
    _, artifact = check_artifact(ContainerPaths.from_environment().model, settings)
    placed = processes(settings, artifact, available_cores())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_supervise(Supervisor(placed, settings.hung_seconds), os.environ.get(HOST_VARIABLE, HOST), port))


async def _supervise(supervisor: Supervisor, host: str, port: int) -> None:
    await supervisor.run(host, port)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
