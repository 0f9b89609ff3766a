"""A container that may call AWS has a key of its own, which ends with it; one without a network has none."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from local_aws.authentication.credentials import CredentialStore
from local_aws.hosting.images import Image
from local_aws.hosting.replica import Replica, ReplicaSpec

SERVER = """
import http.server, json, os, pathlib
pathlib.Path(os.environ["TMPDIR"], "environment.json").write_text(json.dumps(dict(os.environ)))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReplicaSpec:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hosting's own")
    monkeypatch.setenv("GITHUB_TOKEN", "the user's own")
    for folder in ("logs", "root", "model"):
        (tmp_path / folder).mkdir()
    image = Image(str(tmp_path / "root"), "/", (sys.executable, "-c", SERVER), {}, str(tmp_path))
    return ReplicaSpec(image, str(tmp_path / "model"), None, {"SETTING": "1"}, "ml.c5.large")


def environments_of(state: Path, spec: ReplicaSpec, count: int = 1) -> list[dict[str, str]]:
    """Start replicas, and return what each found in its environment."""

    async def run() -> list[dict[str, str]]:
        replicas = [Replica(state, spec, "endpoint/variant") for _ in range(count)]
        found = []
        for replica in replicas:
            await replica.start(60)
            found.append(json.loads((replica.folder / "tmp/environment.json").read_text()))
        keys = [environment.get("AWS_ACCESS_KEY_ID", "") for environment in found]
        assert all(CredentialStore(state).find(key) for key in keys if key), "they open the account"
        for replica in replicas:
            await replica.stop()
        assert not any(CredentialStore(state).find(key) for key in keys), "and no longer than it runs"
        return found

    return asyncio.run(run())


def test_a_container_without_a_network_has_no_key(tmp_path: Path, spec: ReplicaSpec) -> None:
    (environment,) = environments_of(tmp_path, spec)
    assert environment["SETTING"] == "1"
    assert not [name for name in environment if name.startswith("AWS_") or name == "GITHUB_TOKEN"]


def test_every_other_container_has_a_key_of_its_own(tmp_path: Path, spec: ReplicaSpec) -> None:
    one, other = environments_of(tmp_path, replace(spec, isolated=False), 2)
    assert one["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert one["AWS_ACCESS_KEY_ID"] != other["AWS_ACCESS_KEY_ID"]
    assert "hosting's own" not in (one["AWS_SECRET_ACCESS_KEY"], other["AWS_SECRET_ACCESS_KEY"])
    assert "GITHUB_TOKEN" not in one
