"""Build the models and run the servers, each in its own Python environment."""

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import builds
from benchmarks.saved_model.client import ImageClient
from benchmarks.servers import PYTHON_VARIABLES, Program, loopback, running
from containers.serving.contract import BASE_DIR_VARIABLE, WORKERS_VARIABLE
from local_aws import fake_images
from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.processes import free_port

RECIPE: Mapping[str, Any] = {
    "source": {"kind": "generated", "images": 160},
    "precisions": ["int8"],
    "png_signature": True,
}
"""The network at full size. Both servers accept PNG, so JSON slows neither down."""
_IMAGE = "tensorflow-inference"


@dataclass(frozen=True, slots=True)
class Build:
    """Output of the build: archives of both models, and its summary."""

    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`."""
        summary: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
        return summary

    @property
    def samples(self) -> bytes:
        """Images and masks as a zip archive."""
        return (self.folder / "samples.zip").read_bytes()

    def extract(self, name: str, to: Path) -> Path:
        """Write an archive's files below `to/model`, and return that folder."""
        target = to / "model"
        with tarfile.open(fileobj=io.BytesIO((self.folder / name / "model.tar.gz").read_bytes())) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content is not None:
                    path = target / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        return target


def build(cache: Path) -> Build:
    """Run the workload's build as CodeBuild does, with its output on stderr; raises BenchmarkError."""
    return Build(builds.build("saved_model", RECIPE, cache))


@dataclass(frozen=True, slots=True)
class Environments:
    """Python interpreters of the container's image and of the fake TensorFlow Serving image."""

    openvino: Path
    tensorflow: Path

    @classmethod
    def make(cls, cache: Path) -> "Environments":
        """Install both in `cache` on first use; raises EnvironmentSetupError."""
        image = environment(cache, "image", ROOT / "containers/saved_model/requirements.txt", "--no-deps")
        fake = environment(cache, _IMAGE, fake_images.FAKES[_IMAGE].requirements, "--no-deps")
        return cls(image / "bin/python", fake / "bin/python")


@contextlib.contextmanager
def openvino(python: Path, base: Path, workers: int | None) -> Iterator[ImageClient]:
    """Run this project's container over `base/model`, as its image starts it; raises BenchmarkError.

    workers: images computed at a time; None lets the container decide.
    """
    variables = {} if workers is None else {WORKERS_VARIABLE: str(workers)}
    with running(_program("the container", python, "containers.saved_model", base, variables)) as server:
        yield ImageClient(server.target.port)


@contextlib.contextmanager
def tensorflow(python: Path, base: Path, knobs: Mapping[str, str]) -> Iterator[ImageClient]:
    """Run the fake of SageMaker's TensorFlow Serving container over `base/model`; raises BenchmarkError."""
    package = fake_images.FAKES[_IMAGE].package
    with running(_program("the TensorFlow stand-in", python, package, base, knobs)) as server:
        yield ImageClient(server.target.port)


def _program(name: str, python: Path, package: str, base: Path, variables: Mapping[str, str]) -> Program:
    port = free_port()
    return Program(
        name=name,
        command=(str(python), "-m", package, "serve"),
        variables={
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(base),
            "TMPDIR": str(base),
            **PYTHON_VARIABLES,
            BASE_DIR_VARIABLE: str(base),
            **loopback(port),
            **variables,
        },
        port=port,
        folder=base,
    )
