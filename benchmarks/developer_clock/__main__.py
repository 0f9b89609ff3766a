"""`python -m benchmarks.developer_clock`: time synthesis, a deployment of every workload and the README's commands."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.account import cdk, local_account
from benchmarks.command import CacheOption, ResultsOption, conclude, measuring, say
from benchmarks.developer_clock.new_clone import run_commands
from benchmarks.developer_clock.report import ClockResult
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from local_aws.account import ACCOUNT_ID, CONCURRENT_STACKS, REGION, ROOT

_SILENT = {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"}


def main(
    cache: CacheOption,
    deployment: Annotated[str, typer.Option(help="a name in deployments/, or a path")] = "dev",
    times: Annotated[int, typer.Option(min=2, help="how often to synthesize, and to deploy after the first")] = 5,
    commands: Annotated[
        bool, typer.Option(help="run the demo and the tests in new clones too, which takes half an hour")
    ] = True,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Time synthesis, a deployment of every workload with its builds cached, and the README's commands.

    The commands run in new clones of the last commit. A first deployment fills the cache and does not count. Exits with
    1 when a target is missed, and with 2 when nothing could be measured.
    """
    with measuring(), tempfile.TemporaryDirectory(prefix="developer-clock-") as name:
        result = _run(deployment, times, cache, Path(name), commands=commands)
    conclude(result, result.record(results))


def _run(deployment: str, times: int, cache: Path, folder: Path, *, commands: bool) -> ClockResult:
    say("filling the cache")
    _deploy(deployment, cache, folder / "first")
    machine = Machine.read()
    synths, ups, deploys, destroys = [], [], [], []
    for number in range(times):
        say(f"round {number + 1} of {times}")
        synths.append(_timed(lambda: _synth(deployment, folder)))
        up, deploy, destroy = _deploy(deployment, cache, folder / f"round-{number}")
        ups.append(up)
        deploys.append(deploy)
        destroys.append(destroy)
    if commands:
        say("running the README's commands in new clones")
    return ClockResult(
        machine=machine,
        deployment=deployment,
        synth=tuple(synths),
        up=tuple(ups),
        deploy=tuple(deploys),
        destroy=tuple(destroys),
        commands=run_commands(folder) if commands else None,
    )


def _synth(deployment: str, folder: Path) -> None:
    done = subprocess.run(
        ["python", "app.py"],
        cwd=ROOT,
        env={**os.environ, **_SILENT, "CDK_OUTDIR": str(folder / "cdk.out"), "CDK_CONTEXT_JSON": _context(deployment)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"synthesis failed: {done.stderr[-300:]}")


def _context(deployment: str) -> str:
    return f'{{"deployment": "{deployment}"}}'


def _deploy(deployment: str, cache: Path, folder: Path) -> tuple[float, float, float]:
    """Return the seconds to start and bootstrap an account, to deploy every stack, and to destroy them."""
    folder.mkdir()
    common = ["--context", f"deployment={deployment}", "--output", str(folder / "cdk.out"), "--progress", "events"]
    common += CONCURRENT_STACKS
    began = time.perf_counter()
    with local_account(folder / "state", cache):
        cdk("bootstrap", [f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], folder)
        up = time.perf_counter() - began
        deploy = _timed(lambda: cdk("deploy", ["--all", "--require-approval", "never", *common], folder))
        destroy = _timed(lambda: cdk("destroy", ["--all", "--force", *common], folder))
    return up, deploy, destroy


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
