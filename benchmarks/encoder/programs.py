"""The servers of one model: this project's container and two rivals."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import PYTHON_VARIABLES, Program, loopback
from benchmarks.wire import post
from containers.serving.app import JSON
from containers.serving.contract import BASE_DIR_VARIABLE
from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.processes import free_port

OURS, FASTAPI, LITSERVE = "encoder's container", "FastAPI, plain", "LitServe, batching"


@dataclass(frozen=True, slots=True)
class Environments:
    """Python environments of the container's image and of its rivals."""

    image: Path
    rivals: Path

    @classmethod
    def make(cls, cache: Path) -> "Environments":
        """Install both in `cache` on first use; raises EnvironmentSetupError."""
        return cls(
            environment(cache, "image", ROOT / "containers/encoder/requirements-vnni.txt", "--no-deps"),
            environment(cache, "bert-rivals", Path(__file__).with_name("requirements-rivals.txt"), "--no-deps"),
        )


def program(
    name: str, environments: Environments, model: Path, threads: int, bodies: list[bytes], folder: Path
) -> Program:
    """Return the named server with the model in `model`; `bodies` are its requests."""
    port = free_port()
    python, arguments = environments.image, ["containers.encoder", "serve"]
    if name != OURS:
        python = environments.rivals
        module = {FASTAPI: "fastapi_server", LITSERVE: "litserve_server"}[name]
        arguments = [f"benchmarks.encoder.rivals.{module}", str(model), str(port), str(threads)]
    return Program(
        name=name,
        command=(str(python / "bin/python"), "-m", *arguments),
        variables={
            "PATH": f"{python}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            **PYTHON_VARIABLES,
            "PYTHONPATH": str(ROOT),
            "TOKENIZERS_PARALLELISM": "false",
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
            BASE_DIR_VARIABLE: str(model.parent),
            **loopback(port),
        },
        port=port,
        folder=folder,
        requests=tuple(post("/invocations", body, JSON) for body in bodies),
    )
