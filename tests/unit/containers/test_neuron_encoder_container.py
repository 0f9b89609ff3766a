"""The whole neuron_encoder container as a process: its front, a process for each core group, restarts and the drain."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from containers.neuron_encoder.artifact import INPUTS, NEURON_FILE, TOKENIZER_FILE, Bucket, NeuronArtifact
from containers.serving.contract import MANIFEST_FILE, MAX_BODY_BYTES
from containers.serving.manifest import EngineVersion, Manifest

_Found = TypeVar("_Found")
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{index}" for index in range(50))]
ITEM = {"question": "w1 w2", "context": "w3 w4 w5 w6"}
CORES = 2


def wait_for(find: Callable[[], _Found], seconds: float = 60) -> _Found:
    deadline = time.monotonic() + seconds
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def save_archive(base: Path) -> None:
    folder = base / "model"
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / TOKENIZER_FILE))
    traced = NeuronArtifact(
        target="inf2",
        sdk={},
        inputs=INPUTS,
        buckets=tuple(Bucket(length=32, batch=batch, file="none.pt") for batch in (1, 8)),
        cores_per_copy=1,
        device_bytes=0,
    )
    (folder / NEURON_FILE).write_bytes(traced.to_json())
    manifest = Manifest(
        schema_version=1,
        workload="neuron_encoder",
        precision="bf16",
        recipe={"doc_stride": 4, "max_query_length": 8},
        source="test",
        engine=EngineVersion(name="torch-neuronx", version="2.9.0"),
        built_with={},
        inputs=(),
        instruction_sets_any_of=(),
        calibration=None,
        accuracy=None,
        files={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()},
    )
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Container:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20, trust_env=False)

    def post(self, path: str, body: object) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=20, trust_env=False)

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.get("/ping").status_code == 200
        return False

    def raw(self, request: bytes) -> bytes:
        """Everything that one connection answers until it is quiet and closed."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            found = b""
            while data := connection.recv(65536):
                found += data
        return found


def environment(base: Path, port: int, **variables: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("NEURON_ENCODER_", "SAGEMAKER_"))},
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_BIND_TO_HOST": "127.0.0.1",
        "NEURON_ENCODER_DEVICE": "timed",
        "NEURON_ENCODER_VIRTUAL_CORES": str(CORES),
        **variables,
    }


@contextlib.contextmanager
def running(base: Path, until: Callable[[Container], bool] = Container.ready, **variables: str) -> Iterator[Container]:
    save_archive(base)
    port, log = free_port(), base / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "containers.neuron_encoder", "serve"],
            env=environment(base, port, **variables),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    container = Container(process, port, log)
    try:
        wait_for(lambda: until(container))
        yield container
    finally:
        children = psutil.Process(process.pid).children() if process.poll() is None else []
        process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(tmp_path_factory.mktemp("container") / "ml") as started:
        yield started


def test_sagemakers_path_and_every_core_answer_on_the_one_port(container: Container) -> None:
    whole = container.post("/invocations", ITEM)
    cores = [container.post(f"/predictions_neuron_core_{core}/model_0", ITEM) for core in range(CORES)]
    assert [response.status_code for response in (whole, *cores)] == [200] * 3
    assert whole.headers["x-amzn-sagemaker-custom-attributes"] == "precision=bf16"
    assert all(response.json() == whole.json() for response in cores)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/predictions_neuron_core_9/model_0", "no NeuronCore 9: there are 0, 1"),
        ("/predictions_neuron_core_1/model_5", "this process serves /predictions_neuron_core_1/model_0"),
        ("/elsewhere", "this container serves GET /ping, POST /invocations"),
    ],
)
def test_what_is_not_there_is_a_404_that_says_what_is(container: Container, path: str, message: str) -> None:
    response = container.post(path, ITEM)
    assert response.status_code == 404
    assert message in response.json()["error"]["message"]


def test_errors_of_the_processes_come_through_whole(container: Container) -> None:
    refused = container.post("/invocations", {"question": "w1"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_field")
    assert container.get("/invocations").status_code == 405


def test_metrics_of_all_processes_are_one_text_with_each_family_once(container: Container) -> None:
    for core in range(CORES):
        container.post(f"/predictions_neuron_core_{core}/model_0", ITEM)
    lines = container.get("/metrics").text.splitlines()
    busy = [line for line in lines if line.startswith("neuron_encoder_core_busy_seconds_total{")]
    assert len(busy) == CORES
    assert all(float(line.split()[-1]) > 0 for line in busy)
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert 'neuron_encoder_process_restarts_total{core="0"} 0.0' in lines


def test_requests_sent_ahead_in_pieces_or_in_chunks_are_answered_in_order(container: Container) -> None:
    body = json.dumps(ITEM).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    whole = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    last = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = container.raw(whole + chunked + whole + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.count(b'"answer"') == 3
    assert answer.endswith(b"{}")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(container: Container) -> None:
    body = json.dumps(ITEM).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", container.port), timeout=20) as connection:
        connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(body)
        assert connection.recv(1024).startswith(b"HTTP/1.1 200 OK")


def test_what_is_no_http_is_a_400_and_a_body_over_the_limit_a_413(container: Container) -> None:
    assert container.raw(b"hello\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request")
    response = httpx.post(
        f"{container.url}/invocations",
        content=b"x" * (MAX_BODY_BYTES + 1),
        headers={"content-type": "application/json"},
        timeout=20,
        trust_env=False,
    )
    assert response.status_code == 413
    assert str(MAX_BODY_BYTES) in response.json()["error"]["message"]


def test_a_head_without_end_is_a_431(container: Container) -> None:
    assert container.raw(b"GET /ping HTTP/1.1\r\n" + (b"a: " + b"b" * 1000 + b"\r\n") * 70).startswith(b"HTTP/1.1 431")


def test_a_process_that_dies_is_started_again_while_the_others_answer(container: Container) -> None:
    (first, *_) = psutil.Process(container.process.pid).children()
    first.kill()
    wait_for(lambda: not container.ready())
    missing = container.get("/ping")
    assert missing.status_code == 503
    assert "not ready: core" in missing.json()["error"]["message"]
    assert all(container.post("/invocations", ITEM).status_code == 200 for _ in range(5))
    wait_for(container.ready)
    assert all(
        container.post(f"/predictions_neuron_core_{core}/model_0", ITEM).status_code == 200 for core in range(CORES)
    )
    restarts = [line for line in container.get("/metrics").text.splitlines() if "process_restarts_total{" in line]
    assert sum(float(line.split()[-1]) for line in restarts) == 1
    assert "exited with code -9; it restarts in 0.5 s" in container.log.read_text()


def test_a_process_that_hangs_is_ended_and_started_again_while_its_requests_go_elsewhere(tmp_path: Path) -> None:
    with running(tmp_path / "ml", NEURON_ENCODER_HUNG_SECONDS="2") as container:
        (first, *_) = psutil.Process(container.process.pid).children()
        first.suspend()
        assert all(container.post("/invocations", ITEM).status_code == 200 for _ in range(4))
        wait_for(lambda: not container.ready())
        assert "did not respond for 2 s; killing it" in container.log.read_text()
        wait_for(container.ready)
        assert all(
            container.post(f"/predictions_neuron_core_{core}/model_0", ITEM).status_code == 200 for core in range(CORES)
        )


def test_what_else_listens_on_a_port_is_taken_for_no_process_of_this_container(
    container: Container, tmp_path: Path
) -> None:
    (taken, *_) = [
        connection.laddr.port
        for child in psutil.Process(container.process.pid).children()
        for connection in child.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    variables = {"NEURON_ENCODER_VIRTUAL_CORES": "1", "NEURON_ENCODER_FIRST_PORT": str(taken)}
    with running(
        tmp_path / "ml", until=lambda other: "restarts in 1.0 s" in other.log.read_text(), **variables
    ) as other:
        assert other.get("/ping").status_code == 503
        assert other.post("/invocations", ITEM).status_code == 503


def test_what_is_in_work_is_answered_after_sigterm_and_nothing_stays(tmp_path: Path) -> None:
    # As many windows as a request may have, in as many requests as take a while.
    item = {"question": "w1", "context": " ".join(f"w{index % 50}" for index in range(400))}
    clients = 16
    signaled = threading.Event()

    def last_status(container: Container) -> int | None:
        """Send one request after another until the signal, to keep work in flight.

        Returns the status of the last request, None where the container no longer accepted it.
        """
        while True:
            try:
                status = client.post(
                    f"{container.url}/invocations", json=item, headers={"Connection": "close"}
                ).status_code
            except httpx.ConnectError:
                return None
            if signaled.is_set() or status != 200:
                return status

    with (
        httpx.Client(timeout=20, trust_env=False) as client,
        running(tmp_path / "ml", NEURON_ENCODER_QUEUE_CAPACITY="9999") as container,
        concurrent.futures.ThreadPoolExecutor(clients) as threads,
    ):
        children = psutil.Process(container.process.pid).children()
        assert len(children) == CORES
        asked = [threads.submit(last_status, container) for _ in range(clients)]
        wait_for(lambda: 'model="0"} 0.0' not in queued(container))
        signaled.set()
        container.process.send_signal(signal.SIGTERM)
        statuses = [each.result(timeout=30) for each in asked]
        assert set(statuses) <= {200, 503, None}, "those that came after the signal are refused"
        assert 200 in statuses
        assert container.process.wait(timeout=30) == 0
        assert not any(child.is_running() for child in children)
        with pytest.raises(httpx.TransportError):
            container.get("/ping")


def test_a_request_whose_body_arrives_after_sigterm_is_answered_and_a_later_one_is_not(tmp_path: Path) -> None:
    body = json.dumps(ITEM).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with running(tmp_path / "ml") as container:
        with socket.create_connection(("127.0.0.1", container.port), timeout=20) as connection:
            connection.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue")
            container.process.send_signal(signal.SIGTERM)
            wait_for(lambda: not container.ready())
            with contextlib.suppress(httpx.TransportError):
                assert container.post("/invocations", ITEM).status_code == 503
            connection.sendall(body)
            assert connection.recv(1024).startswith(b"HTTP/1.1 200 OK")
        assert container.process.wait(timeout=30) == 0


def test_a_client_that_goes_before_its_body_holds_no_stop_up(tmp_path: Path) -> None:
    with running(tmp_path / "ml") as container:
        with socket.create_connection(("127.0.0.1", container.port), timeout=20) as connection:
            connection.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            )
            assert connection.recv(1024).startswith(b"HTTP/1.1 100 Continue")
        assert container.ready()
        container.process.send_signal(signal.SIGTERM)
        # A drain that waited for it would take the whole grace period.
        assert container.process.wait(timeout=20) == 0


def queued(container: Container) -> str:
    """The queue of the core that has one, else the line of an empty queue."""
    lines = [
        line for line in container.get("/metrics").text.splitlines() if line.startswith("neuron_encoder_queue_windows{")
    ]
    return next((line for line in lines if not line.endswith(" 0.0")), lines[0])


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "message"),
    [
        (["train"], {}, 2, "this image is run as `IMAGE serve`"),
        (["serve"], {"NEURON_ENCODER_MODELS": "none"}, 1, "cannot serve: NEURON_ENCODER_MODELS is 'none'"),
        (["serve"], {"SAGEMAKER_BIND_TO_PORT": "x"}, 1, "cannot serve: SAGEMAKER_BIND_TO_PORT is 'x'"),
        (["serve"], {"SAGEMAKER_BASE_DIR": "/nowhere"}, 1, "cannot serve: no manifest.json"),
        (
            ["serve"],
            {"NEURON_ENCODER_DEVICE": "cpu"},
            1,
            "cannot serve: the artifact was built for torch-neuronx 2.9.0",
        ),
    ],
)
def test_the_image_stops_with_an_honest_exit_code(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], code: int, message: str
) -> None:
    save_archive(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "containers.neuron_encoder", *arguments],
        env=environment(tmp_path, free_port(), **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
