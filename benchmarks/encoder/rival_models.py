"""Models of the engines that the project does not build, and of the one that needs its own interpreter."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.command import say
from benchmarks.encoder.engines import RANDOM_WEIGHTS, Models, unpacked
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from local_aws.account import ROOT
from model_build.steps import StepCache, code_hash

_RIVALS = Path(__file__).parent / "rivals"
_NO_COMPILER = "PyTorch Inductor was left out: it takes a C++ compiler (g++, or what CXX names)."
_NO_IPEX = (
    "Intel Extension for PyTorch was left out: it is discontinued, its torch is a CUDA build of gigabytes, and --ipex "
    "names an interpreter that has both."
)


def with_rivals(models: Models, cache: Path, folder: Path, ipex: Path | None) -> Models:
    """Add the rivals' models, converted or compiled once and kept in `cache`; raises BenchmarkError.

    ipex: an interpreter with model_build/encoder/requirements-ipex.txt, or a script that runs one; None leaves
        that engine out.
    """
    folders, left_out = dict(models.folders), []
    folders["ctranslate2", "int8"] = _made(models.python, cache, "ct2")
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        left_out.append(_NO_COMPILER)
    else:
        for precision in ("fp32", "int8"):
            folders["inductor", precision] = _made(models.python, cache, "inductor", precision)
    if ipex is None:
        left_out.append(_NO_IPEX)
        return replace(models, folders=folders, left_out=tuple(left_out))
    # Commands run in the project's folder. Links are not resolved because an environment's interpreter is a link.
    ipex = ipex.absolute()
    folders |= _built_by(ipex, cache, folder)
    return replace(models, folders=folders, pythons={"ipex": ipex}, left_out=tuple(left_out))


def _made(python: Path, cache: Path, module: str, *arguments: str) -> Path:
    """Return the output of `benchmarks.encoder.rivals.MODULE ARGUMENTS FOLDER`, cached per kind of processor."""
    inputs = {
        "arguments": arguments,
        "code": code_hash(_RIVALS),
        "environment": python.parent.parent.name,
        "processor": [Machine.read().processor, *Machine.read().instruction_sets],
    }

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="encoder-") as scratch:
            _run(
                [str(python), "-W", "ignore", "-m", f"benchmarks.encoder.rivals.{module}", *arguments, str(folder)],
                {"TORCHINDUCTOR_CACHE_DIR": scratch, "TMPDIR": scratch},
                f"{module} could not make its model",
            )

    name = "-".join((module, *arguments))
    return StepCache(cache / "rivals", say).run(name, inputs, make).folder


def _built_by(ipex: Path, cache: Path, folder: Path) -> dict[tuple[str, str], Path]:
    output = folder / "ipex-build"
    options = ["--cache", str(cache / "builds/steps"), "--output", str(output)]
    _run(
        [str(ipex), "-m", "model_build.encoder", *options],
        {"RECIPE": json.dumps({"engine": "ipex", "source": RANDOM_WEIGHTS})},
        f"--ipex {ipex} could not build its model; it takes model_build/encoder/requirements-ipex.txt",
    )
    return unpacked(output, "ipex", folder)


def _run(command: list[str], variables: Mapping[str, str], error: str) -> None:
    """Run a module of this project with its output on stderr; raises BenchmarkError."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARTIFACT_")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT), **variables}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=2, check=False)
    except OSError as problem:
        raise BenchmarkError(f"{error}: {problem}") from problem
    if done.returncode:
        raise BenchmarkError(f"{error}; see its output above")
