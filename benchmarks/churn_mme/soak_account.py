"""A local account of the soak's own, and the multi-model endpoint that the CDK's command line deploys into it."""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import typer
import yaml

from benchmarks.errors import BenchmarkError
from benchmarks.processes import last_lines, process_group
from load_tests.closed_loop import Target
from local_aws import cli
from local_aws.account import ACCOUNT_ID, REGION, ROOT, LocalAccount, ProcessRecord
from local_aws.demo.steps import stack_outputs
from sizing.churn_mme import CONTAINER_MIB, WORKLOAD
from sizing.instances import instance
from sizing.working_set import memory_for_models_mib
from stacks.settings import Deployment

INSTANCE_TYPE = "ml.c5.xlarge"
_ENDPOINT = "soak"
_GUARD = 'cat >/dev/null; kill -s TERM "$1"'
"""Stops the account once the pipe from this process closes, which it does even on SIGKILL."""
_STATUS_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Running:
    """Process ids: the endpoint's container, the hosting process and the emulator; any other means a restart."""

    container: int
    hosting: int
    emulator: int


@dataclass(frozen=True, slots=True)
class SoakedEndpoint:
    """The endpoint in its account; models: the `s3://` URL that every archive is under, with a slash at its end."""

    account: LocalAccount
    target: Target
    models: str

    @property
    def url(self) -> str:
        """InvokeEndpoint of this endpoint."""
        return f"{self.account.runtime_url}/endpoints/{self.target.endpoint}/invocations"

    def running(self) -> Running:
        """What runs now; raises BenchmarkError unless one container does."""
        records = [ProcessRecord(**row) for row in json.loads((self._state / "processes.json").read_text())]
        pids = {record.name: record.pid for record in records}
        containers = [
            replica["pid"]
            for endpoint in _endpoints(self.account)
            for variant in endpoint["variants"]
            for replica in variant["replicas"]
            if replica["ready"]
        ]
        if len(containers) != 1:
            raise BenchmarkError(f"{len(containers)} containers are ready, 1 is needed; the endpoint is down")
        return Running(containers[0], pids["hosting"], pids["emulator"])

    def put(self, name: str, archive: bytes) -> None:
        """Uploads an archive under the models' prefix; errors of the client library pass through."""
        bucket, prefix = self._place
        boto3.client("s3").put_object(Bucket=bucket, Key=prefix + name, Body=archive)

    def get(self, name: str) -> bytes:
        """An archive under the models' prefix; errors of the client library pass through."""
        bucket, prefix = self._place
        return boto3.client("s3").get_object(Bucket=bucket, Key=prefix + name)["Body"].read()

    @property
    def _place(self) -> tuple[str, str]:
        bucket, _, prefix = self.models.removeprefix("s3://").partition("/")
        return bucket, prefix

    @property
    def _state(self) -> Path:
        return Path(self.account.state)


def memory_per_model_mib(slots: int) -> int:
    """What a model must count so that as many fit the instance, with half a model to spare on either side."""
    for_models = memory_for_models_mib(instance(INSTANCE_TYPE).memory_gib * 1024, CONTAINER_MIB)
    return int(for_models / (slots + 0.5))


@contextlib.contextmanager
def soaked_endpoint(memory_per_model_mib: int, cache: Path, folder: Path) -> Iterator[SoakedEndpoint]:
    """Deploys one endpoint with that setting, and destroys it after a block that ends without an error.

    The account and all that it holds end in any case. Its clients find it in this process's environment. Raises
    BenchmarkError.
    """
    file = folder / "soak.yaml"
    churn = {"memory_per_model_mib": memory_per_model_mib, "endpoints": {_ENDPOINT: {"instance_type": INSTANCE_TYPE}}}
    file.write_text(yaml.safe_dump({"environment": "soak", "workloads": {WORKLOAD: churn}}))
    settings = Deployment.load(file)
    common = ["--context", f"deployment={file}", "--output", str(folder / "cdk.out"), "--progress", "events"]
    with _account(folder / "state", cache) as account:
        _cdk("bootstrap", [f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], folder)
        _cdk("deploy", ["--all", "--require-approval", "never", *common], folder)
        (endpoint,) = _endpoints(account)
        (variant,) = endpoint["variants"]
        target = Target(endpoint["endpoint"], variant["name"])
        yield SoakedEndpoint(account, target, stack_outputs(settings, WORKLOAD)["Models"])
        _cdk("destroy", ["--all", "--force", *common], folder)
        if left := _endpoints(account):
            raise BenchmarkError(f"cdk destroy left the endpoint {left[0]['endpoint']}")


@contextlib.contextmanager
def _account(state: Path, cache: Path) -> Iterator[LocalAccount]:
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
    before = dict(os.environ)
    os.environ.update(account.environment())
    # A profile of the user's would be looked up, and may name another account.
    os.environ.pop("AWS_PROFILE", None)
    try:
        yield account
    finally:
        os.environ.clear()
        os.environ.update(before)
        cli.stop(state)
        guard.kill()
        guard.communicate()


def _cdk(command: str, arguments: list[str], folder: Path) -> None:
    log = folder / f"cdk-{command}.log"
    line = ["cdk", command, *arguments, "--no-notices"]
    with process_group(line, cwd=ROOT, environment=os.environ, log=log) as process:
        if process.wait():
            raise BenchmarkError(f"cdk {command} failed: {last_lines(log, 5)}")


def _endpoints(account: LocalAccount) -> list[dict[str, Any]]:
    answer = httpx.get(f"{account.runtime_url}/_local/status", timeout=_STATUS_SECONDS, trust_env=False)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found
