"""A local account for one benchmark, and deployments into it with the CDK's command line."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.processes import guarded, last_lines, process_group
from local_aws import lifecycle
from local_aws.account import ACCOUNT_ID, REGION, ROOT, LocalAccount, environment_variables
from local_aws.status import endpoints


@contextlib.contextmanager
def deployed(file: Path, cache: Path, folder: Path) -> Iterator[LocalAccount]:
    """Deploy every stack of a deployment file, and destroy them after a block that ends without an error.

    The account and everything in it end in any case. Clients find it through this process's environment. Raises
    BenchmarkError.
    folder: empty folder for the account's state and the output of commands.
    """
    common = ["--context", f"deployment={file}", "--output", str(folder / "cdk.out"), "--progress", "events"]
    with local_account(folder / "state", cache) as account:
        cdk("bootstrap", [f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], folder)
        cdk("deploy", ["--all", "--require-approval", "never", *common], folder)
        yield account
        cdk("destroy", ["--all", "--force", *common], folder)
        if left := endpoints(account):
            raise BenchmarkError(f"cdk destroy left the endpoint {left[0]['endpoint']}")


@contextlib.contextmanager
def local_account(state: Path, cache: Path) -> Iterator[LocalAccount]:
    """Run an account in a new folder until the block ends; clients find it through this process's environment.

    Raises BenchmarkError.
    """
    try:
        account = lifecycle.start(state, cache)
    except lifecycle.LocalAccountError as error:
        raise BenchmarkError(str(error)) from error
    with guarded("TERM", str(account.supervisor_pid)):
        try:
            with environment_variables(account.environment()):
                # A profile set by the user would be used, and may belong to another account.
                os.environ.pop("AWS_PROFILE", None)
                yield account
        finally:
            lifecycle.stop(state)


def cdk(command: str, arguments: list[str], folder: Path) -> None:
    """Run a CDK command with its output in `folder`; raises BenchmarkError with the output's last lines."""
    log = folder / f"cdk-{command}.log"
    line = ["cdk", command, *arguments, "--no-notices"]
    with process_group(line, cwd=ROOT, environment=os.environ, log=log) as process:
        if process.wait():
            raise BenchmarkError(f"cdk {command} failed: {last_lines(log, 5)}")
