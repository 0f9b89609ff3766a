"""What connections may take of a server: of uvicorn's with its limits, and of the reverse proxy of neuron_encoder."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from containers.neuron_encoder import reverse_proxy
from containers.neuron_encoder.reverse_proxy import ReverseProxy
from containers.neuron_encoder.upstream import Reply, Upstream
from containers.serving import connections
from containers.serving.app import Answer, Invocation, ServingOptions, create_app
from containers.serving.connections import BoundedHttpProtocol
from containers.serving.contract import MAX_BODY_BYTES
from containers.serving.limits import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED

WAIT_SECONDS = 20
PING = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n"
MIB = 2**20


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /invocations HTTP/1.1", b"Host: a", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""]) + body


@dataclass(eq=False)
class Server:
    """A server on a loopback port. opened: lets the requests go on that say `wait`. open: connections that it has."""

    module: ModuleType
    port: int
    opened: asyncio.Event
    open: Callable[[], int]
    asked: list[bytes] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, data: bytes) -> bytes:
        """Everything that a connection is sent for these bytes until the server closes it."""
        reader, writer = await self.connect()
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                received += part
        writer.close()
        return received


Start = Callable[[], contextlib.AbstractAsyncContextManager[Server]]


@contextlib.asynccontextmanager
async def uvicorn_server() -> AsyncIterator[Server]:
    """A container's own server around a model that answers the body."""
    opened, loop = asyncio.Event(), asyncio.get_running_loop()

    def invoke(invocation: Invocation) -> Answer:
        server.asked.append(invocation.body)
        if invocation.body == b"wait":
            asyncio.run_coroutine_threadsafe(opened.wait(), loop).result(WAIT_SECONDS)
        return Answer(bytes(MAX_BODY_BYTES) if invocation.body == b"large" else invocation.body)

    app: ASGIApp = create_app(invoke, ServingOptions(workers=4, body_timeout_seconds=0.2))
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    state = ServerState()
    listening = await loop.create_server(
        lambda: BoundedHttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    port = listening.sockets[0].getsockname()[1]
    server = Server(connections, port, opened, lambda: len(state.connections))
    async with listening:
        yield server


@contextlib.asynccontextmanager
async def neuron_proxy() -> AsyncIterator[Server]:
    """The reverse proxy in front of a process that responds with the body."""
    opened = asyncio.Event()

    class Echoing(Upstream):
        async def ask(self, request: bytes, _seconds: float) -> Reply:
            body = request.partition(b"\r\n\r\n")[2]
            server.asked.append(body)
            if body == b"wait":
                await opened.wait()
            if body == b"broken":
                raise RuntimeError("broken")
            body = bytes(MAX_BODY_BYTES) if body == b"large" else body
            return Reply(200, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body, True)

    async def metrics() -> bytes:
        return b""

    upstream = Echoing("echo", lambda: 0)
    upstream.ready = True
    shared = ReverseProxy([upstream], {b"0": upstream}, metrics)
    listening = await asyncio.get_running_loop().create_server(shared.connection, "127.0.0.1", 0)
    server = Server(reverse_proxy, listening.sockets[0].getsockname()[1], opened, lambda: shared.connections)
    async with listening:
        yield server
    assert (shared.active, shared.held_bytes) == (0, 0), "what connections held is given back"


@pytest.fixture(params=[uvicorn_server, neuron_proxy])
def start(request: pytest.FixtureRequest) -> Start:
    chosen: Start = request.param
    return chosen


def run(start: Start, scenario: Callable[[Server], Awaitable[None]]) -> None:
    async def go() -> None:
        async with start() as server:
            await asyncio.wait_for(scenario(server), WAIT_SECONDS)
            await until(lambda: not server.open())

    asyncio.run(go())


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.01)


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def error(received: bytes) -> dict[str, str]:
    told: dict[str, str] = json.loads(received.rpartition(b"\r\n\r\n")[2])["error"]
    assert told["code"]
    assert told["message"]
    return told


def patch(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    for module in (connections, reverse_proxy):
        monkeypatch.setattr(module, name, value, raising=False)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /ping HTTP/1.1\r\nx: " + b"y" * 5 * MIB,
        b"GET /ping HTTP/1.1\r\n" + b"y" * 5 * MIB,
        b"GET /" + b"y" * 5 * MIB,
        b"GET /ping HTTP/1.1\r\n" + b"x: y\r\n" * MIB,
        b"GET /ping HTTP/1.1\r\n" + b"x: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"GET /ping HTTP/1.1\r\nx: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /" + b"y" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["value", "name", "path", "headers without end", "one header more", "long value", "long path"],
)
def test_a_head_over_the_limits_is_a_431_and_ends_the_connection(start: Start, head: bytes) -> None:
    async def scenario(server: Server) -> None:
        received = await server.answer(head)
        # A client that is still writing may see the reset before it reads the response.
        if received:
            assert statuses(received) == [431]
            assert error(received)["code"] == "head_too_large"
        assert statuses(await server.answer(PING.replace(b"Host", b"Connection: close\r\nHost"))) == [200]

    run(start, scenario)


def test_a_head_within_the_limits_is_answered(start: Start) -> None:
    async def scenario(server: Server) -> None:
        headers = [b"x-%d: y" % number for number in range(MAX_HEADERS - 10)] + [b"long: " + b"y" * 40_000]
        assert statuses(await server.answer(post(b"{}", *headers, b"Connection: close"))) == [200]

    run(start, scenario)


def test_a_head_that_does_not_end_in_time_is_a_408(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "HEAD_SECONDS", 0.1)

    async def scenario(server: Server) -> None:
        for part in (b"G", b"GET /ping HTTP/1.1\r\nHost: localhost\r\n", PING + b"GET /ping"):
            received = await server.answer(part)
            assert statuses(received)[-1] == 408
            assert error(received)["code"] == "head_timeout"

    run(start, scenario)


@pytest.mark.parametrize("part", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_a_connection_that_begins_no_request_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch, part: bytes
) -> None:
    patch(monkeypatch, "HEAD_SECONDS", 0.1)

    async def scenario(server: Server) -> None:
        assert statuses(await server.answer(part)) in ([], [408])

    run(start, scenario)


def test_line_ends_now_and_then_do_not_keep_a_connection(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "HEAD_SECONDS", 0.2)

    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"\r\n")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 0.02)
        writer.close()

    run(start, scenario)


def test_a_body_that_does_not_end_in_time_is_a_408(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "BODY_SECONDS", 0.2)

    async def scenario(server: Server) -> None:
        received = await server.answer(post(b"x" * 100)[:-50])
        assert statuses(received) == [408]
        assert error(received)["code"] == "body_timeout"

    run(start, scenario)


def test_a_body_that_nobody_reads_is_waited_for_no_longer_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "BODY_SECONDS", 0.2)

    async def scenario(server: Server) -> None:
        assert statuses(await server.answer(post(b"x" * 100).replace(b"/invocations", b"/nowhere")[:-50])) == [404]

    run(uvicorn_server, scenario)


@pytest.mark.parametrize("trailer", [b"x: " + b"y" * 5 * MIB, b"x: y\r\n" * MIB])
def test_trailers_without_end_end_the_connection(start: Start, trailer: bytes) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"

    async def scenario(server: Server) -> None:
        assert statuses(await server.answer(head + trailer)) in ([], [431], [400], [408])

    run(start, scenario)


def test_connections_over_the_limit_are_503s_until_others_are_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch(monkeypatch, "max_connections", lambda: 3)

    async def scenario(server: Server) -> None:
        held = [await server.connect() for _ in range(3)]
        await until(lambda: server.open() == 3)
        reader, writer = await server.connect()
        received = await reader.read()
        writer.close()
        assert statuses(received) == [503]
        assert b"retry-after: 1" in received.lower()
        assert "3 connections are open" in error(received)["message"]
        for _, writer in held:
            writer.close()
        await until(lambda: not server.open())
        assert statuses(await server.answer(post(b"{}", b"Connection: close"))) == [200]

    run(start, scenario)


def test_requests_in_advance_are_answered_in_order_up_to_a_number(start: Start) -> None:
    async def scenario(server: Server) -> None:
        bodies = [b"wait", *(b"%d" % number for number in range(5000))]
        asking = asyncio.ensure_future(server.answer(b"".join(map(post, bodies))))
        await until(lambda: bool(server.asked))
        await asyncio.sleep(0.1)
        assert server.asked == [b"wait"]
        server.opened.set()
        received = await asking
        answered = server.asked
        assert answered == bodies[: len(answered)]
        assert 1 < len(answered) <= MAX_PIPELINED + 2
        assert len(statuses(received)) in (len(answered), 0), "all are answered, unless a reset came first"

    run(start, scenario)


def test_a_connection_is_not_read_from_while_its_requests_wait(start: Start) -> None:
    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(post(b"wait") + post(b"next"))
        await until(lambda: bool(server.asked))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200 * MIB:
                writer.write(post(bytes(MIB)))
                await asyncio.wait_for(writer.drain(), 1)
                sent += MIB
        # The kernel's buffers of both sides take some.
        assert sent < 64 * MIB
        server.opened.set()
        writer.transport.abort()
        reader.feed_eof()

    run(start, scenario)


@pytest.mark.parametrize("rest", [b"\0\0\0\r\n\r\n", b"GET /ping HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n"])
def test_what_is_wrong_behind_a_request_is_not_taken_for_its_response(start: Start, rest: bytes) -> None:
    async def scenario(server: Server) -> None:
        asking = asyncio.ensure_future(server.answer(post(b"wait") + rest))
        await until(lambda: bool(server.asked))
        await asyncio.sleep(0.05)
        server.opened.set()
        received = await asking
        assert statuses(received)[0] == 200
        assert statuses(received)[1:] in ([], [400], [431])

    run(start, scenario)


def test_a_client_that_does_not_read_its_response_is_let_go(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    patch(monkeypatch, "WRITE_SECONDS", 0.2)

    async def scenario(server: Server) -> None:
        reader, writer = await server.connect()
        transport = writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        # More than the kernel's buffers of both sides take.
        writer.write(post(b"large") * 10)
        await until(lambda: not server.open())
        writer.close()
        reader.feed_eof()

    run(start, scenario)


def test_bodies_over_the_fronts_bytes_are_503s_until_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reverse_proxy, "_MAX_HELD_BYTES", 6 * MIB)

    async def scenario(server: Server) -> None:
        _, slow = await server.connect()
        slow.write(post(bytes(6 * MIB))[: 5 * MIB])
        await slow.drain()
        await asyncio.sleep(0.2)
        refused = await server.answer(post(bytes(3 * MIB), b"Connection: close"))
        assert statuses(refused) == [503]
        assert b"Retry-After: 1" in refused
        assert statuses(await server.answer(post(bytes(10_000), b"Connection: close"))) == [200]
        slow.transport.abort()
        await until(lambda: not server.open())
        assert statuses(await server.answer(post(bytes(6 * MIB), b"Connection: close"))) == [200]

    run(neuron_proxy, scenario)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /predictions_neuron_core_0/\xff HTTP/1.1\r\nConnection: close\r\n\r\n", 405),
        (b"POST /predictions_neuron_core_\xff/model_0 HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"POST /\xff HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (post(b"broken", b"Connection: close"), 500),
    ],
    ids=["method", "core", "path", "failure"],
)
def test_the_front_answers_what_it_cannot_read_or_did_not_expect(request_: bytes, status: int) -> None:
    async def scenario(server: Server) -> None:
        received = await server.answer(request_)
        assert statuses(received)[0] in (status, 400)
        assert error(received)

    run(neuron_proxy, scenario)
