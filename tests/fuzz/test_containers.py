"""A short run of the fuzz on every image's server; scripts/fuzz runs twenty thousand requests and more on each."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.fuzz import fuzz_container
from tools.fuzz.__main__ import main
from tools.fuzz.run import Finding, Violation, judge, save
from tools.fuzz.servers import SERVERS, running
from tools.fuzz.wire import Connection, Reply, Request, WireError, replies_to

REQUESTS = 500
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", list(SERVERS))
def test_no_generated_request_gets_more_than_a_stated_refusal(name: str, tmp_path: Path) -> None:
    report = fuzz_container(name, tmp_path, requests=REQUESTS, seed=1)
    told = [f"seed {finding.seed}: {finding.what}\n{finding.raw[:400]!r}" for finding in report.findings]
    assert told == []
    assert report.requests >= REQUESTS
    assert report.of_class(2) >= REQUESTS // 20, "valid requests are answered"
    assert report.of_class(4) >= REQUESTS // 4, "damaged ones are refused"


@pytest.fixture(scope="module")
def neuron_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where neuron_encoder answers."""
    with running(SERVERS["neuron_encoder"], tmp_path_factory.mktemp("neuron") / "base") as server:
        yield server.port


@pytest.mark.parametrize("name", ["encoder", "neuron_encoder"])
def test_requests_that_are_sent_before_the_answers_have_come_are_all_answered_in_order(
    name: str, tmp_path: Path
) -> None:
    item = b'{"question": "w1", "context": "w2"}'
    requests = [
        Request("GET", "/ping"),
        Request("POST", "/invocations", (("Content-Type", b"application/json"),), item),
        Request("POST", "/invocations", (("Content-Type", b"text/plain"),), item),
        Request("GET", "/nowhere", (("Connection", b"close"),)),
    ]
    with running(SERVERS[name], tmp_path / name) as server, server.connect(20) as connection:
        replies = replies_to(connection, b"".join(each.raw() for each in requests), 20, end=False)
    assert [reply.status for reply in replies] == [200, 200, 415, 404]


@pytest.mark.parametrize("path", ["/ping", "/invocations", "/metrics", "/predictions_neuron_core_0/model_0", "/x"])
def test_an_answer_to_head_has_no_body_and_the_connection_goes_on(path: str, neuron_port: int) -> None:
    with socket.create_connection(("127.0.0.1", neuron_port), 20) as connection:
        connection.sendall(Request("HEAD", path).raw())
        answer = connection.recv(65536)
        assert answer.partition(b"\r\n\r\n")[2] == b""
        connection.sendall(Request("GET", "/ping").raw())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "reply", "said"),
    [
        (Request("POST", "/invocations"), Reply(500, {}, b'{"error": {"code": "c", "message": "m"}}'), "status is 500"),
        (Request("POST", "/invocations"), Reply(503, {}, b'{"error": {"code": "c", "message": "m"}}'), "status is 503"),
        (Request("POST", "/invocations"), Reply(507, {}, b'{"error": {"code": "c", "message": "m"}}'), "status is 507"),
        (Request("POST", "/invocations"), Reply(307, {}, b""), "status is 307"),
        (Request("POST", "/invocations"), Reply(404, {}, b"Not Found"), "without a code and a message"),
        (Request("POST", "/invocations"), Reply(400, {}, b"Traceback (most recent call last)"), "server's own code"),
        (Request("POST", "/invocations"), Reply(200, {"content-type": "application/json"}, b'{"score": NaN}'), "NaN"),
    ],
)
def test_what_no_container_may_answer_is_found(request_: Request, reply: Reply, said: str) -> None:
    with pytest.raises(Violation, match=said):
        judge(request_, reply)


def test_stated_refusals_are_none_of_it() -> None:
    told = b'{"error": {"code": "overloaded", "message": "try again later"}}'
    judge(Request("POST", "/invocations"), Reply(503, {"retry-after": "1"}, told))
    judge(Request("POST", "/models"), Reply(507, {}, told))
    judge(Request("POST", "/invocations"), Reply(400, {}, b"Invalid HTTP request received."))
    judge(Request("HEAD", "/invocations"), Reply(405, {}, b""))


def test_a_finding_is_kept_as_the_bytes_that_bring_it_about(tmp_path: Path) -> None:
    raw = Request("POST", "/invocations", (), bytes(range(256))).raw()
    (path,) = save([Finding("encoder", "the status is 500", raw, 7)], tmp_path)
    first, *lines = path.read_text().splitlines()
    assert first == "# encoder, seed 7: the status is 500"
    assert bytes.fromhex("".join(lines)) == raw


def test_a_server_that_says_nothing_is_told_from_one_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(WireError, match=r"no response within 0\.2 s"), Connection(port, 0.2) as connection:
            connection.ask(Request("GET", "/ping"))


def test_the_command_line_says_which_setting_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--requests", "0"])
    assert ended.value.code == 2
    assert "--requests is 0: it must be 1 or more" in capsys.readouterr().err
