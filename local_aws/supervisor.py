"""Supervisor that keeps the emulator and the hosting process running.

Usage: `python -m local_aws.supervisor STATE CACHE EMULATOR_PYTHON`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import httpx

from load_tests.signed_requests import SignedRequests
from local_aws.account import (
    ACCOUNT_ID,
    CACHE_VARIABLE,
    ENGINE_VARIABLE,
    OWNER_VARIABLE,
    REGION,
    ROOT,
    S3_URL_VARIABLE,
    STATE_VARIABLE,
    Engine,
    LocalAccount,
    ProcessRecord,
    engine,
    write_json,
)
from local_aws.authentication import credentials
from local_aws.authentication.credentials import CredentialStore
from local_aws.child_environment import inherited
from local_aws.installer import uv_environment
from local_aws.podman.state import HOSTING, TASKS, remove_containers
from local_aws.processes import alive, birth, die_with_parent, free_port, kill_group
from model_build.owned_folders import ACCOUNT, remove

START_SECONDS = 60
_MAX_BACKOFF_SECONDS = 30.0


@dataclass
class _Child:
    name: str
    command: list[str]
    environment: dict[str, str]
    ping: str
    lost_on_death: str
    process: subprocess.Popen[bytes] | None = None
    record: ProcessRecord = field(default_factory=lambda: ProcessRecord("", 0, "starting", 0.0))


class Supervisor:
    """Supervisor of both processes: starts them, restarts them when they die, and removes the state folder at exit."""

    def __init__(self, state: Path, cache: Path, emulator_python: Path) -> None:
        self._state, self._cache = state, cache
        self._stop = threading.Event()
        port, runtime_port = free_port(), free_port()
        own = os.getpid()
        keys = CredentialStore(state)
        user = keys.issue(credentials.DEPLOYER)
        self._account = LocalAccount(
            str(state), str(cache), port, runtime_port, own, birth(own), user.access_key_id, engine()
        )
        addresses = self._account.addresses()
        self._auth = SignedRequests({**addresses, **keys.issue(credentials.SUPERVISOR).environment()})
        models = {"AWS_ENDPOINT_URL_S3": os.environ[S3_URL_VARIABLE]} if S3_URL_VARIABLE in os.environ else {}
        base = {
            **inherited(installs=True),
            **addresses,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(state / "tmp"),
        }
        self._children = [
            _Child(
                "hosting",
                [sys.executable, "-m", "local_aws.hosting"],
                {**base, **self._account.environment(), **keys.issue(credentials.HOSTING).environment(), **models},
                f"{self._account.runtime_url}/_local/health",
                "its endpoints were restarted from the saved state",
            ),
            _Child(
                "emulator",
                [str(emulator_python), "-m", "local_aws.emulator"],
                {
                    **base,
                    **keys.issue(credentials.EMULATOR).environment(),
                    **uv_environment(cache),
                    "PATH": os.pathsep.join([str(emulator_python.parent), os.environ.get("PATH", "")]),
                    "HOME": str(state / "home"),
                    "STATE_DIR": str(state / "emulator"),
                    "PERSIST_STATE": "1",
                    "S3_PERSIST": "1",
                    "S3_DATA_DIR": str(state / "s3"),
                    "NODE_PATH": str(ROOT / "node_modules"),
                    "GATEWAY_PORT": str(port),
                    "BIND_HOST": "127.0.0.1",
                    "MINISTACK_HOST": "127.0.0.1",
                    "LAMBDA_EXECUTOR": "local",
                    "MINISTACK_REGION": REGION,
                    "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
                    STATE_VARIABLE: str(state),
                    CACHE_VARIABLE: str(cache),
                    ENGINE_VARIABLE: self._account.engine,
                    "INFERENCE_HOSTING_URL": self._account.runtime_url,
                    "INFERENCE_BUILD_CACHE": str(cache / "builds"),
                },
                f"{self._account.endpoint_url}/_ministack/health",
                "it was restarted from its last snapshot; changes made in the second before may be lost, "
                "so rerun any deployment that was in progress",
            ),
        ]

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, and return the exit code."""
        for received in (signal.SIGTERM, signal.SIGINT):
            signal.signal(received, lambda *_: self._stop.set())
        if self._account.engine is not Engine.PODMAN:
            # Podman's containers run as other users, who must read what is mounted. The state folder is private anyway.
            os.umask(0o077)
        for folder in ("tmp", "home", "logs", "emulator", "s3", "replicas", "models", "images"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        try:
            for child in self._children:
                self._start(child, 0, "")
            if not self._wait_until_ready():
                return 0 if self._stop.is_set() else 1
            self._account.write()
            self._watch()
        finally:
            for child in reversed(self._children):
                if child.process is not None:
                    kill_group(child.process.pid, 10)
            if self._account.engine == Engine.PODMAN:
                remove_containers(self._cache, self._state, HOSTING, TASKS)
            remove(self._state, ACCOUNT)
        return 0

    def _start(self, child: _Child, restarts: int, note: str) -> None:
        log = (self._state / "logs" / f"{child.name}.log").open("ab")
        child.process = subprocess.Popen(
            child.command,
            env=child.environment,
            cwd=self._state,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        child.record = ProcessRecord(child.name, child.process.pid, "running", time.time(), restarts, note)
        self._write_records()

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        for child in self._children:
            while not self._is_ready(child):
                assert child.process is not None
                if self._stop.is_set() or time.monotonic() > deadline or child.process.poll() is not None:
                    print(f"{child.name} did not start; see its log", file=sys.stderr)
                    return False
                self._stop.wait(0.1)
        return True

    def _is_ready(self, child: _Child) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(child.ping, auth=self._auth, timeout=2, trust_env=False).is_success
        return False

    def _watch(self) -> None:
        backoff = dict.fromkeys((child.name for child in self._children), 0.5)
        owner = os.environ.get(OWNER_VARIABLE)
        while not self._stop.wait(0.25) and (owner is None or alive(int(owner))):
            for child in self._children:
                assert child.process is not None
                if alive(child.process.pid):
                    if time.time() - child.record.started > 60:
                        backoff[child.name] = 0.5
                    continue
                code = child.process.wait()
                ended = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
                kill_group(child.process.pid, 1)
                child.record = replace(child.record, state="restarting", note=ended)
                self._write_records()
                self._stop.wait(backoff[child.name])
                backoff[child.name] = min(2 * backoff[child.name], _MAX_BACKOFF_SECONDS)
                self._start(child, child.record.restarts + 1, f"{ended}; {child.lost_on_death}")

    def _write_records(self) -> None:
        write_json(self._state / "processes.json", [asdict(child.record) for child in self._children])


if __name__ == "__main__":
    sys.exit(Supervisor(*(Path(argument) for argument in sys.argv[1:4])).run())
