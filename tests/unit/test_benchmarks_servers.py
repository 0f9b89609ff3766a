"""The harness that runs every benchmark's servers."""

import os
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.servers import Program, running
from local_aws.processes import alive, free_port


def program(folder: Path, *command: str) -> Program:
    port = free_port()
    command = command or ("-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), str(port))
    return Program(
        name="the server",
        command=(sys.executable, *command),
        variables=os.environ,
        port=port,
        folder=folder,
        requests=(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",),
    )


def test_a_server_is_ready_once_it_responds_and_ends_with_its_block(tmp_path: Path) -> None:
    started = program(tmp_path)
    with running(started) as server:
        assert (server.target.name, server.target.port) == ("the server", started.port)
        assert server.target.requests == started.requests
        assert server.get("/").is_success
        assert 0 < server.start_seconds < 120
        assert server.memory().processes == 1
        assert server.cpu_seconds() > 0
    assert not alive(server.pid)


def test_a_response_that_is_no_success_is_an_error_that_names_the_server(tmp_path: Path) -> None:
    with running(program(tmp_path)) as server, pytest.raises(BenchmarkError, match=r"the server, GET /missing: .*404"):
        server.get("/missing")


def test_a_program_that_ends_before_it_is_ready_is_an_error_that_quotes_its_log(tmp_path: Path) -> None:
    ends = program(tmp_path, "-c", "raise SystemExit('no model')")
    with pytest.raises(BenchmarkError, match="the server ended with exit code 1: no model"), running(ends):
        pass


def until_stopped(pid: int) -> None:
    """Waits for the process to stop, five seconds at most: a signal may arrive while it runs."""
    deadline = time.monotonic() + 5
    while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_suspended_server_responds_only_while_it_is_resumed(tmp_path: Path) -> None:
    with running(program(tmp_path)) as server:
        url = f"http://127.0.0.1:{server.target.port}"
        server.suspend()
        until_stopped(server.pid)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(url, timeout=0.2, trust_env=False)
        with server.resumed():
            assert server.get("/").is_success
        until_stopped(server.pid)
        # The end of the block would wait for a suspended process, which handles no SIGTERM.
        psutil.Process(server.pid).resume()
