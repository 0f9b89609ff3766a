"""A local account of a benchmark's own, and what the CDK's command line deploys into it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import typer

from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from local_aws import cli
from local_aws.account import ACCOUNT_ID, REGION, ROOT, LocalAccount, environment_variables

_GUARD = 'cat >/dev/null; kill -s TERM "$1"'
"""Stops the account once the pipe from this process closes, which it does even on SIGKILL."""
_STATUS_SECONDS = 10


@contextlib.contextmanager
def deployed(file: Path, cache: Path, folder: Path) -> Iterator[LocalAccount]:
    """Deploys every stack of a deployment file, and destroys them after a block that ends without an error.

    The account and all that it holds end in any case. Its clients find it in this process's environment. Raises
    BenchmarkError. folder: of the account's state and the commands' output, empty.
    """
    common = ["--context", f"deployment={file}", "--output", str(folder / "cdk.out"), "--progress", "events"]
    with local_account(folder / "state", cache) as account:
        cdk("bootstrap", [f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], folder)
        cdk("deploy", ["--all", "--require-approval", "never", *common], folder)
        yield account
        cdk("destroy", ["--all", "--force", *common], folder)
        if left := endpoint_status(account):
            raise BenchmarkError(f"cdk destroy left the endpoint {left[0]['endpoint']}")


def endpoint_status(account: LocalAccount) -> list[dict[str, Any]]:
    """What the hosting process tells of its endpoints and their replicas; errors of httpx pass through."""
    answer = httpx.get(
        f"{account.runtime_url}/_local/status", auth=account.auth(), timeout=_STATUS_SECONDS, trust_env=False
    )
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found


@contextlib.contextmanager
def local_account(state: Path, cache: Path) -> Iterator[LocalAccount]:
    """An account in a new folder, which ends with the block; its clients find it in this process's environment.

    Raises BenchmarkError.
    """
    try:
        account = cli.start(state, cache)
    except typer.Exit:
        raise BenchmarkError("the local account did not start; what it said is above") from None
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", str(account.supervisor_pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with environment_variables(account.environment()):
            # A profile of the user's would be looked up, and may name another account.
            os.environ.pop("AWS_PROFILE", None)
            yield account
    finally:
        cli.stop(state)
        guard.kill()
        guard.communicate()


def cdk(command: str, arguments: list[str], folder: Path) -> None:
    """Runs a command of the CDK with its output in `folder`; raises BenchmarkError with its last lines."""
    log = folder / f"cdk-{command}.log"
    line = ["cdk", command, *arguments, "--no-notices"]
    with process_group(line, cwd=ROOT, environment=os.environ, log=log) as process:
        if process.wait():
            raise BenchmarkError(f"cdk {command} failed: {last_lines(log, 5)}")
