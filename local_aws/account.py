"""Where a local account keeps its state, and how clients reach it."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from local_aws.authentication.credentials import CredentialStore
from local_aws.processes import alive, birth

if TYPE_CHECKING:
    from load_tests.signed_requests import SignedRequests

ROOT = Path(__file__).parents[1]
ACCOUNT_ID = "000000000000"
REGION = "us-east-1"
STATE_VARIABLE = "INFERENCE_LOCAL_STATE"
CACHE_VARIABLE = "INFERENCE_LOCAL_CACHE"
TIME_SCALE_VARIABLE = "INFERENCE_LOCAL_TIME_SCALE"
"""Speed-up of alarm periods and cooldowns over AWS (at least 1); rates keep their meaning."""

OWNER_VARIABLE = "INFERENCE_LOCAL_OWNER"
"""ID of a process that the local account ends with; if unset, the account runs until `down`."""

S3_URL_VARIABLE = "INFERENCE_LOCAL_S3_URL"
"""URL that hosting reads models from instead of the account's own S3, such as a store that injects faults."""

ENGINE_VARIABLE = "INFERENCE_LOCAL_ENGINE"

CONCURRENT_STACKS = ("--concurrency", "4")
"""CDK options for four stacks at a time: deployments wait for builds and containers rather than for the CPU."""

ADDRESSES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
)
"""Variables that point AWS clients at an account, without a key; `LocalAccount.addresses` returns their values."""


class Engine(StrEnum):
    """What builds and runs images: processes on this machine, or Podman."""

    PROCESS = "process"
    PODMAN = "podman"


def engine() -> Engine:
    """Return INFERENCE_LOCAL_ENGINE, or `process` if it is unset; raise ValueError for any other value."""
    return Engine(os.environ.get(ENGINE_VARIABLE, Engine.PROCESS))


def default_state() -> Path:
    """Return INFERENCE_LOCAL_STATE, or `.local` in the project."""
    return Path(os.environ.get(STATE_VARIABLE) or ROOT / ".local").absolute()


def default_cache() -> Path:
    """Return INFERENCE_LOCAL_CACHE, or `.cache` in the project.

    The cache holds environments and build steps that survive `down`.
    """
    return Path(os.environ.get(CACHE_VARIABLE) or ROOT / ".cache").absolute()


def time_scale() -> float:
    """Return INFERENCE_LOCAL_TIME_SCALE, at least 1."""
    return max(1.0, float(os.environ.get(TIME_SCALE_VARIABLE, "1")))


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of the account.

    started: last start, in seconds since 1970. restarts: how often it was restarted. note: why it last ended.
    """

    name: str
    pid: int
    state: str
    started: float
    restarts: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class LocalAccount:
    """A running local account: folders, loopback ports, and the access key of the user's shell.

    supervisor_birth: as local_aws.processes.birth returns it. access_key_id: ID only; the secret is in a separate file.
    """

    state: str
    cache: str
    port: int
    runtime_port: int
    supervisor_pid: int
    supervisor_birth: str
    access_key_id: str
    engine: str = Engine.PROCESS

    @staticmethod
    def file(state: Path) -> Path:
        """Return the path of the account file, which is written once the account accepts requests."""
        return state / "account.json"

    @classmethod
    def read(cls, state: Path) -> "LocalAccount | None":
        """Return the account in a state folder, or None if none was started there."""
        try:
            return cls(**json.loads(cls.file(state).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self) -> None:
        """Write the account file atomically."""
        write_json(self.file(Path(self.state)), asdict(self))

    @property
    def supervised(self) -> bool:
        """Whether the supervisor is running. Its process ID alone is not enough: another process may reuse it."""
        return alive(self.supervisor_pid) and birth(self.supervisor_pid) == self.supervisor_birth

    @property
    def endpoint_url(self) -> str:
        """URL of all services."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def runtime_url(self) -> str:
        """URL of InvokeEndpoint, bypassing the emulator."""
        return f"http://127.0.0.1:{self.runtime_port}"

    def addresses(self) -> dict[str, str]:
        """Return the variables that point any AWS client at the account, without a key."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": self.runtime_url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client_environment(self) -> dict[str, str]:
        """Return the variables an AWS client needs to call the account as its user.

        Raises KeyError if the access key is gone.
        """
        credential = CredentialStore(Path(self.state)).find(self.access_key_id)
        if credential is None:
            raise KeyError(f"the account in {self.state} has no access key {self.access_key_id}")
        return {**self.addresses(), **credential.environment()}

    def auth(self) -> "SignedRequests":
        """Return the signer for this project's own requests as the account's user.

        Raises KeyError if the access key is gone.
        """
        # Fake images import this module in environments that have no HTTP client.
        from load_tests.signed_requests import SignedRequests

        return SignedRequests(self.client_environment())

    def environment(self) -> dict[str, str]:
        """Return `client_environment` plus the variables that the CDK's command line needs."""
        return {
            **self.client_environment(),
            STATE_VARIABLE: self.state,
            CACHE_VARIABLE: self.cache,
            ENGINE_VARIABLE: self.engine,
            "CDK_DOCKER": str(ROOT / "local_aws/docker_shim.py"),
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
            "PATH": os.pathsep.join(
                [str(Path(sys.executable).parent), str(ROOT / "node_modules/.bin"), os.environ.get("PATH", "")]
            ),
        }


@contextlib.contextmanager
def environment_variables(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a block, then restore the whole environment."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def write_json(path: Path, content: object) -> None:
    """Replace a JSON file atomically, so a reader never sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
