"""A task's container in the local account is a process: its image's entrypoint, its output, its end."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_aws.account import ROOT
from local_aws.emulator.containers import Client, Container, NoSuchContainerError
from local_aws.hosting.images import Image
from local_aws.processes import alive

URI = "000000000000.dkr.ecr.us-east-1.amazonaws.com/assets:abc"


@pytest.fixture
def client(tmp_path: Path) -> Client:
    (tmp_path / "images").mkdir()
    (tmp_path / "rootfs/opt/program").mkdir(parents=True)
    image = Image(
        rootfs=str(tmp_path / "rootfs"),
        workdir="/opt/program",
        entrypoint=(sys.executable, "-u", "-c"),
        environment={"GREETING": "hello", "PATH": "/nowhere"},
        venv=str(tmp_path / "venv"),
    )
    image.save(tmp_path, "assets:abc")
    return Client(tmp_path)


def said(container: Container) -> list[str]:
    return b"".join(container.logs(stream=True, follow=True)).decode().splitlines()


def until_it_says(container: Container, line: bytes) -> None:
    assert next(container.logs()) == line


def test_the_command_follows_the_images_entrypoint_in_its_folder(client: Client, tmp_path: Path) -> None:
    container = client.containers.run(URI, command=["import os; print(os.getcwd())"], ports=None, privileged=False)
    assert said(container) == [str(tmp_path / "rootfs/opt/program")]
    assert container.wait() == {"StatusCode": 0}
    assert container.status == "exited"


def test_the_tasks_environment_comes_before_the_images(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NOT_FOR_CONTAINERS", "1")
    script = "import os; print([os.environ.get(n) for n in ('GREETING', 'AWS_ENDPOINT_URL', 'NOT_FOR_CONTAINERS')])"
    environment = {"GREETING": "good day", "AWS_ENDPOINT_URL": "http://host.docker.internal:1"}
    container = client.containers.run(URI, command=[script], environment=environment)
    assert said(container) == ["['good day', 'http://127.0.0.1:1', None]"]


def test_both_outputs_are_told_line_by_line(client: Client) -> None:
    container = client.containers.run(URI, command=["import sys; print('one'); print('two', file=sys.stderr)"])
    assert said(container) == ["one", "two"]
    assert said(container) == ["one", "two"], "whoever asks gets all"


def test_its_address_is_loopback(client: Client) -> None:
    container = client.containers.run(URI, command=["pass"])
    (network,) = container.attrs["NetworkSettings"]["Networks"].values()
    assert network["IPAddress"] == "127.0.0.1"
    container.wait()


def test_the_exit_code_is_the_process_own(client: Client) -> None:
    assert client.containers.run(URI, command=["raise SystemExit(7)"]).wait() == {"StatusCode": 7}


def test_a_stopped_process_may_end_by_itself(client: Client) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye'))); print('up'); "
        "signal.pause()"
    )
    container = client.containers.run(URI, command=[script], stop_timeout=30.0)
    until_it_says(container, b"up\n")
    container.stop(timeout=5)
    assert (container.wait(), said(container)) == ({"StatusCode": 0}, ["up", "bye"])


def test_one_that_does_not_is_killed_after_its_stop_timeout(client: Client) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up')\nwhile True: time.sleep(60)"
    )
    container = client.containers.run(URI, command=[script], stop_timeout=0.2)
    until_it_says(container, b"up\n")
    began = time.monotonic()
    container.stop(timeout=60)
    assert container.wait() == {"StatusCode": 137}, "128 and SIGKILL, as Docker tells it"
    assert time.monotonic() - began >= 0.2


def test_it_does_not_outlive_the_account(client: Client, tmp_path: Path) -> None:
    del client
    account = (
        "import sys, pathlib; from local_aws.emulator.containers import Client; "
        "container = Client(pathlib.Path(sys.argv[1])).containers.run('assets:abc', "
        "command=['import os, time; print(os.getpid()); time.sleep(600)']); "
        "print(int(next(container.logs())), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", account, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    deadline = time.monotonic() + 20
    while alive(child):
        assert time.monotonic() < deadline, "the container goes on without its account"
        time.sleep(0.02)


def test_it_is_found_by_its_id_as_long_as_the_account_runs(client: Client) -> None:
    container = client.containers.run(URI, command=["pass"])
    assert client.containers.get(container.id) is container
    container.wait()
    with pytest.raises(NoSuchContainerError, match="there is no container ''"):
        client.containers.get("")


def test_an_image_that_was_never_pushed_is_named(client: Client) -> None:
    with pytest.raises(NoSuchContainerError, match="there is no image other:1: deploy the stack that builds it"):
        client.containers.run("other:1")


def test_an_entrypoint_that_is_not_there_is_an_error_at_the_start(client: Client, tmp_path: Path) -> None:
    Image(str(tmp_path / "rootfs"), "/opt/program", ("nothing-of-that-name",), {}, str(tmp_path)).save(tmp_path, "b:1")
    with pytest.raises(FileNotFoundError, match="nothing-of-that-name"):
        client.containers.run("b:1")


def test_a_removed_container_is_forgotten_with_its_output(client: Client) -> None:
    container = client.containers.run(URI, command=["print(1)"])
    container.wait()
    assert client.containers.get(container.id) is container
    container.remove(v=True)
    with pytest.raises(NoSuchContainerError):
        client.containers.get(container.id)
