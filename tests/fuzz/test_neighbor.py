"""A neighbor of hostile requests notices what they do to it."""

import socket
import time
from pathlib import Path

import pytest

from tools.fuzz import neighbor as neighbor_module
from tools.fuzz.neighbor import Neighbor
from tools.fuzz.servers import SERVERS, Running
from tools.fuzz.wire import Request

WAIT_SECONDS = 20


class Listening(Running):
    """A server that listens and answers nothing, or always the same."""

    def __init__(self, base: Path, port: int) -> None:
        super().__init__(SERVERS["encoder"], base)
        self.port = port

    @property
    def alive(self) -> bool:
        return True

    def memory_mib(self) -> float:
        return 123.0


def found(neighbor: Neighbor) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while neighbor.wrong is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return neighbor.wrong


def test_a_neighbor_that_waits_too_long_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbor_module, "NEIGHBOR_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        running = Listening(tmp_path, silent.getsockname()[1])
        with Neighbor(running, Request("GET", "/ping")) as neighbor:
            assert "no response within 0.2 s" in found(neighbor)
        assert neighbor.peak_mib == 123.0


def test_a_neighbor_that_is_answered_wrongly_is_found(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Neighbor(Listening(tmp_path, server.getsockname()[1]), Request("POST", "/invocations")) as neighbor,
    ):
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 507 Insufficient Storage\r\ncontent-length: 0\r\n\r\n")
            assert "got 507" in found(neighbor)
