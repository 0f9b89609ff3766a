"""The two servers to compare, each in its own Python environment."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.errors import BenchmarkError
from benchmarks.servers import PYTHON_VARIABLES, Program, loopback
from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.processes import free_port

Packages = Literal["lean", "built-in"]
"""Packages available to XGBoost in Multi Model Server's workers: NumPy and SciPy, or also pandas and scikit-learn."""

JVM_OPTIONS = "-Xmx128m -XX:-UseLargePages -XX:+UseG1GC -XX:MaxMetaspaceSize=32M -XX:MaxDirectMemorySize=10m"
"""Options from Multi Model Server's own Docker image; by default, the heap may take a quarter of the machine."""
_HERE = Path(__file__).parent
_REQUIREMENTS: Mapping[Packages, Path] = {
    "lean": _HERE / "requirements-mms.txt",
    "built-in": _HERE / "requirements-mms-built-in.txt",
}


@dataclass(frozen=True, slots=True)
class Environments:
    """Python environments of the container's image and of Multi Model Server."""

    container: Path
    mms: Path

    @classmethod
    def make(cls, cache: Path, packages: Packages) -> "Environments":
        """Install both in `cache` on first use; raises EnvironmentSetupError."""
        return cls(
            environment(cache, "image", ROOT / "containers/tabular/requirements.txt", "--no-deps"),
            environment(cache, "mms", _REQUIREMENTS[packages], "--no-deps"),
        )


def java_version() -> str:
    """Return the first line of `java -version`, for the Java that Multi Model Server uses; raises BenchmarkError."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(f"{home}/bin/java" if home else "java")
    if java is None:
        where = "JAVA_HOME has no bin/java" if home else "java is not on the PATH"
        raise BenchmarkError(f"Multi Model Server needs Java and {where}: install a JRE (Debian: default-jre-headless)")
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    if done.returncode or not done.stderr:
        raise BenchmarkError(f"java -version fails with exit code {done.returncode}: install a JRE that works")
    return done.stderr.splitlines()[0]


def container(python_environment: Path, folder: Path) -> Program:
    """Return this project's container, as its image starts it; it keeps its files in a new folder."""
    port = free_port()
    return Program(
        name="the container",
        command=(str(python_environment / "bin/python"), "-m", "containers.tabular", "serve"),
        variables={
            **_base_variables(python_environment, folder),
            **PYTHON_VARIABLES,
            **loopback(port),
        },
        port=port,
        folder=folder,
    )


def multi_model_server(python_environment: Path, folder: Path) -> Program:
    """Return Multi Model Server, configured for SageMaker's multi-model contract like the built-in container."""
    base = _base_variables(python_environment, folder)
    port = _low_port()
    # SageMaker needs one address for both APIs, a model store that accepts every path, and a handler for folders
    # without a manifest. Asynchronous logging is part of the configuration for SageMaker that MMS ships. One worker per
    # model, not preloaded, is the built-in container's choice; preloading takes more memory.
    config = folder / "config.properties"
    config.write_text(
        f"vmargs={JVM_OPTIONS}\n"
        "model_store=/\n"
        f"inference_address=http://127.0.0.1:{port}\n"
        f"management_address=http://127.0.0.1:{port}\n"
        "default_workers_per_model=1\n"
        "default_service_handler=xgboost_handler:handle\n"
        "decode_input_request=false\n"
        "async_logging=true\n"
    )
    return Program(
        name="Multi Model Server",
        command=(
            *(str(python_environment / "bin" / name) for name in ("python", "multi-model-server")),
            *("--start", "--foreground", "--mms-config", str(config)),
        ),
        variables={
            **base,
            **{name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ},
            "PYTHONPATH": str(_HERE / "mms_handler"),
            # Java's own temporary folder, which holds the workers' sockets.
            "TEMP": base["TMPDIR"],
        },
        port=port,
        folder=folder,
        cwd=folder,
    )


def _low_port() -> int:
    """Return a free loopback port that Multi Model Server accepts; it rejects ports from 32768."""
    ports = range(20_000, 32_768)
    for port in random.sample(ports, k=100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise BenchmarkError(f"no port from {ports.start} to {ports.stop - 1} is free on the loopback interface")


def _base_variables(python_environment: Path, folder: Path) -> dict[str, str]:
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    return {
        "PATH": f"{python_environment}/bin:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
    }
