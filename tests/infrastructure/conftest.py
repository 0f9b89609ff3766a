import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import by_kind

ROOT = Path(__file__).parents[2]
FIGURE = "security figure"


@dataclass(frozen=True)
class Assembly:
    """A synthesized deployment."""

    folder: Path

    def templates(self) -> dict[str, dict[str, Any]]:
        return {
            path.name.removesuffix(".template.json"): json.loads(path.read_text())
            for path in sorted(self.folder.glob("*.template.json"))
        }

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        return {
            f"{stack}/{name}": resource
            for stack, template in self.templates().items()
            for name, resource in template["Resources"].items()
            if resource["Type"] == kind
        }


def run_app(
    output: Path, deployment: str, context: Mapping[str, str] | None = None, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Runs app.py as the CDK's command line does, without network or credentials."""
    given = {**json.loads((ROOT / "cdk.json").read_text())["context"], "deployment": deployment, **(context or {})}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py")],
        cwd=ROOT,
        env={
            **kept,
            "CDK_OUTDIR": str(output),
            "CDK_CONTEXT_JSON": json.dumps(given),
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
            "AWS_EC2_METADATA_DISABLED": "true",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Assembly]:
    """Synthesizes a deployment, or `pipeline=NAME`, once for each set of arguments, for all workers of a run.

    The CDK validates the templates of what is shipped, and not those of a file that a test writes: it takes twice as
    long as the rest.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(deployment: str, label: str = "", **environment: str) -> Assembly:
        key = hashlib.sha256(repr((deployment, label, sorted(environment.items()))).encode()).hexdigest()[:16]
        output, done = shared / f"cdk-{key}", shared / f"cdk-{key}.done"
        with done.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                kind, _, named = deployment.rpartition("=")
                if label or environment or "/" in named:
                    environment["CDK_VALIDATION"] = "false"
                result = run_app(
                    output,
                    named if kind or "/" in named else str(by_kind.file(named)),
                    {kind: named} if kind else None,
                    **environment,
                )
                assert result.returncode == 0, result.stderr
                done.touch()
        return Assembly(output)

    return make


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to what the checks have looked at, which is printed when all tests are done."""
    return lambda line: request.node.user_properties.append((FIGURE, line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [line for report in reports for name, line in report.user_properties if name == FIGURE]
    if lines:
        terminalreporter.section("security")
        for line in lines:
            terminalreporter.write_line(line)
