"""Checks of the load-test image: it starts as its task does, runs a test, and exits with its documented codes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from load_tests.closed_loop import Request
from load_tests.gates import ErrorGate
from load_tests.payloads.file import write_feed
from load_tests.plan import HttpTarget, Plan
from local_aws.account import ROOT
from local_aws.podman.engine import Podman
from local_aws.podman.run import Container, Mount
from local_aws.processes import free_port
from tools.images.serving import CPUS, MEMORY_BYTES, Outcome, Running, check_rights, running

_SECONDS = 60.0


def check(podman: Podman, image_id: str, folder: Path) -> Outcome:
    """Check a task without settings, and a whole test with a master task and a worker task."""
    outcome = Outcome()
    with running(podman, _task(image_id, "master", {}, (), folder, "bare"), folder) as bare:
        code = bare.process.wait(_SECONDS)
        said = "LOAD_TEST_PLAN is not set" in bare.log.read_text()
        outcome.must(code == 2 and said, f"without settings it exited with code {code}: {bare.last_lines()}")
    documents = folder / "load-test"
    documents.mkdir()
    with _stub() as url:
        plan = Plan(
            workload="neuron_encoder",
            endpoint="stub",
            location="local",
            machine="a container",
            target=HttpTarget(urls=(url,), paths=("/invocations",)),
            feed="/documents/feed",
            level=2,
            spawn_rate=100,
            warm_up=0.5,
            seconds=2,
            gates=(ErrorGate(limit=0.0),),
        )
        (documents / "plan.json").write_text(plan.model_dump_json())
        write_feed(str(documents / "feed"), [Request(body=b"{}", content_type="application/json")])
        _run(podman, image_id, documents, folder, outcome)
    return outcome


def _run(podman: Podman, image_id: str, documents: Path, folder: Path, outcome: Outcome) -> None:
    settings = {
        "LOAD_TEST_PLAN": "/documents/plan.json",
        "LOAD_TEST_MASTER": f"127.0.0.1:{free_port()}",
        "LOAD_TEST_RESULT": "/tmp/result.json",
    }
    mounts = (Mount(documents, "/documents"),)
    began = time.monotonic()
    with (
        running(podman, _task(image_id, "master", settings, mounts, folder, "master"), folder) as master,
        running(podman, _task(image_id, "worker", settings, mounts, folder, "worker"), folder) as worker,
    ):
        if not _prints(master, "connected", began + _SECONDS):
            outcome.wrong.append(f"its worker did not reach its master: {master.last_lines()} {worker.last_lines()}")
            return
        outcome.ping_seconds = time.monotonic() - began
        check_rights(master.pid, outcome)
        check_rights(worker.pid, outcome)
        for each in (master, worker):
            code = each.process.wait(_SECONDS)
            outcome.must(code == 0, f"a test whose gates pass exited with code {code}: {each.last_lines()}")


def _task(
    image_id: str, role: str, settings: dict[str, str], mounts: tuple[Mount, ...], folder: Path, name: str
) -> Container:
    return Container(
        name=f"check-load-test-{name}-{os.getpid()}",
        image=image_id,
        command=(role,),
        memory_bytes=MEMORY_BYTES,
        cpus=CPUS,
        environment=settings,
        mounts=mounts,
        pid_file=folder / f"load-test-{name}.pid",
    )


def _prints(task: Running, text: str, deadline: float) -> bool:
    while time.monotonic() < deadline and task.process.poll() is None:
        if text in task.log.read_text():
            return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def _stub() -> Iterator[str]:
    """Run a server outside of any container that responds to everything, and yield its URL."""
    with subprocess.Popen([sys.executable, "-m", "load_tests.stub"], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        finally:
            process.terminate()
