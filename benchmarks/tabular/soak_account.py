"""The multi-model endpoint of the soak, in its own local account."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import yaml

from benchmarks.account import deployed
from benchmarks.errors import BenchmarkError
from load_tests.closed_loop import Target
from load_tests.deployed import stack_outputs
from load_tests.kinds.tabular import CONTAINER_MIB
from local_aws.account import LocalAccount, ProcessRecord
from local_aws.status import endpoints
from sizing.instances import instance
from sizing.working_set import memory_for_models_mib
from stacks.settings.deployment import Deployment

INSTANCE_TYPE = "ml.c5.xlarge"
WORKLOAD = "tabular"
_ENDPOINT = "soak"


@dataclass(frozen=True, slots=True)
class Running:
    """Process ids of the endpoint's container, the hosting process and the emulator; a change means a restart."""

    container: int
    hosting: int
    emulator: int


@dataclass(frozen=True, slots=True)
class SoakedEndpoint:
    """The endpoint in its account.

    models: `s3://` URL of the prefix of all archives, with a slash at its end.
    """

    account: LocalAccount
    target: Target
    models: str

    @property
    def url(self) -> str:
        """InvokeEndpoint URL of this endpoint."""
        return f"{self.account.runtime_url}/endpoints/{self.target.endpoint}/invocations"

    def running(self) -> Running:
        """Return what runs now; raises BenchmarkError unless exactly one container does."""
        records = [ProcessRecord(**row) for row in json.loads((self._state / "processes.json").read_text())]
        pids = {record.name: record.pid for record in records}
        containers = [
            replica["pid"]
            for endpoint in endpoints(self.account)
            for variant in endpoint["variants"]
            for replica in variant["replicas"]
            if replica["ready"]
        ]
        if len(containers) != 1:
            raise BenchmarkError(f"{len(containers)} containers are ready, 1 is needed; the endpoint is down")
        return Running(containers[0], pids["hosting"], pids["emulator"])

    def put(self, name: str, archive: bytes) -> None:
        """Upload an archive under the models' prefix; errors of the client library pass through."""
        bucket, prefix = self._place
        boto3.client("s3").put_object(Bucket=bucket, Key=prefix + name, Body=archive)

    def get(self, name: str) -> bytes:
        """Read an archive under the models' prefix; errors of the client library pass through."""
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
    """Return the memory to count per model so `slots` models fit, with half a model to spare on either side."""
    for_models = memory_for_models_mib(instance(INSTANCE_TYPE).memory_gib * 1024, CONTAINER_MIB)
    return int(for_models / (slots + 0.5))


@contextlib.contextmanager
def soaked_endpoint(memory_per_model_mib: int, cache: Path, folder: Path) -> Iterator[SoakedEndpoint]:
    """Deploy one endpoint with that setting until the block ends, as `deployed` does; raises BenchmarkError."""
    file = folder / "soak.yaml"
    churn = {"memory_per_model_mib": memory_per_model_mib, "endpoints": {_ENDPOINT: {"instance_type": INSTANCE_TYPE}}}
    file.write_text(yaml.safe_dump({"environment": "soak", "workloads": {WORKLOAD: {"kind": "tabular", **churn}}}))
    settings = Deployment.load(file)
    with deployed(file, cache, folder) as account:
        (endpoint,) = endpoints(account)
        (variant,) = endpoint["variants"]
        target = Target(endpoint["endpoint"], variant["name"])
        yield SoakedEndpoint(account, target, stack_outputs(settings, WORKLOAD)["Models"])
