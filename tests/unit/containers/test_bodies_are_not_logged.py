"""What somebody sends for inference stands in no log: neither what is answered, nor what is refused, nor what fails."""

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from containers.serving.app import Answer, Invocation, ServingOptions, create_app
from containers.serving.errors import where_it_failed
from tools.fuzz.servers import SERVERS, Running, running
from tools.fuzz.wire import Connection, Request

PRIVATE = "Quixotic7141"
"""In every body, and in nothing else."""


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An image's real server, whose whole output is its log."""
    with running(SERVERS[request.param], tmp_path_factory.mktemp(request.param) / "base") as found:
        if request.param == "tabular":
            url = str(found.base / "models" / "CA" / "model")
            body = json.dumps({"model_name": "CA", "url": url}).encode()
            with Connection(found.port, 60.0) as connection:
                json_headers = (("content-type", b"application/json"),)
                assert connection.ask(Request("POST", "/models", json_headers, body)).status == 200
        yield found


def bodies() -> list[tuple[str, bytes]]:
    """Content types and bodies that servers answer, refuse, or cannot read."""
    question = {"question": f"Who is {PRIVATE}?", "context": f"{PRIVATE} is w1 w2 w3."}
    texts = (
        json.dumps(question),
        json.dumps([question] * 3),
        json.dumps({**question, PRIVATE: PRIVATE}),
        json.dumps({"question": PRIVATE}),
        json.dumps({"instances": [[PRIVATE]]}),
        json.dumps(PRIVATE),
        f'{{"question": "{PRIVATE}',
        f"1,2,{PRIVATE},4",
        ",".join([PRIVATE] * 16),
        PRIVATE,
    )
    found = [(kind, text.encode()) for text in texts for kind in ("application/json", "text/csv", "text/plain")]
    broken = PRIVATE.encode() + b"\xff\xfe\x00" + PRIVATE.encode()
    kinds = ("application/json", "text/csv", "application/x-npy", "image/png", "image/jpeg")
    found += [(kind, broken) for kind in kinds]
    found += [("image/png", b"\x89PNG\r\n\x1a\n" + broken), ("application/x-npy", b"\x93NUMPY\x01\x00v\x00" + broken)]
    found.append(("application/json", json.dumps({**question, "context": PRIVATE * 700_000}).encode()))
    return found


def paths(name: str) -> tuple[str, ...]:
    if name == "tabular":
        return ("/models/CA/invoke", "/models/nobody/invoke", "/models")
    if name == "neuron_encoder":
        return ("/invocations", "/predictions_neuron_core_0/model_0", "/predictions_neuron_core_0/model_9")
    return ("/invocations",)


def test_no_body_reaches_the_log_of_a_server(server: Running) -> None:
    statuses = set()
    for path in paths(server.server.name):
        for kind, body in bodies():
            with Connection(server.port, 60.0) as connection:
                headers = (("content-type", kind.encode()),)
                statuses.add(connection.ask(Request("POST", path, headers, body)).status)
    assert {400, 413, 415} <= statuses and server.alive
    server.stop()
    log = server.log.read_text(errors="replace")
    assert log, "the log holds what the server has to say"
    assert PRIVATE not in log


def test_a_model_that_fails_quoting_its_input_leaves_where_it_failed_and_not_what_it_quoted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(invocation: Invocation) -> Answer:
        try:
            float(invocation.body.decode())
        except ValueError as error:
            raise RuntimeError(f"cannot answer {invocation.body!r}") from error
        raise AssertionError

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(fails, ServingOptions()))
        async with httpx.AsyncClient(transport=transport, base_url="http://container") as client:
            return await client.post("/invocations", content=PRIVATE, headers={"content-type": "application/json"})

    with caplog.at_level(logging.DEBUG):
        response = asyncio.run(go())
    assert response.status_code == 500
    assert PRIVATE not in caplog.text and PRIVATE not in response.text
    for part in ("an invocation failed", "RuntimeError", "caused by", "ValueError", "in fails"):
        assert part in caplog.text


def test_where_it_failed_has_the_lines_of_code_and_the_types() -> None:
    try:
        dict[str, str]()[PRIVATE]
    except KeyError as error:
        told = where_it_failed(error)
    assert "KeyError (message left out)" in told and Path(__file__).name in told
    assert PRIVATE not in told
