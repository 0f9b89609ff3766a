"""The layer in front of the local account: who is let through, and in which words all others are refused."""

import asyncio
import dataclasses
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import boto3
import httpx
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from load_tests.signed_requests import SignedRequests
from local_aws.authentication.credentials import DEPLOYER, Credential, CredentialStore
from local_aws.authentication.errors import Protocol
from local_aws.authentication.middleware import CALLER, MAX_UNDECLARED_BYTES, Authentication

SESSION = boto3.Session()
"""One for all tests, since it keeps the service models that it has read."""
ADDRESS = "127.0.0.1:4566"
URL = f"http://{ADDRESS}"


class Handler:
    """What stands behind the layer; remembers whom and what it saw."""

    def __init__(self) -> None:
        self.callers: list[Credential] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.callers.append(scope[CALLER])
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        headers = [(b"Access-Control-Allow-Origin", b"*"), (b"access-control-expose-headers", b"*"), (b"x-kept", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"handled"})


@dataclasses.dataclass
class Account:
    """A layer, its keys and what stands behind it."""

    store: CredentialStore
    key: Credential
    handler: Handler
    layer: Authentication

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        auth: httpx.Auth | None = None,
    ) -> httpx.Response:
        """Send one request to the layer."""

        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.layer)
            async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
                return await client.request(method, path, headers=headers, content=content, auth=auth)

        return asyncio.run(sent())

    def auth(self, key: Credential | None = None) -> SignedRequests:
        """Sign as that key, the deployer's if None."""
        return SignedRequests({**(key or self.key).environment(), "AWS_REGION": "us-east-1"})

    @property
    def untouched(self) -> bool:
        """Whether no handler has seen a request."""
        return not self.handler.callers


@pytest.fixture
def account(tmp_path: Path) -> Account:
    store, handler = CredentialStore(tmp_path), Handler()
    return Account(store, store.issue(DEPLOYER), handler, Authentication(handler, store, ADDRESS, Protocol.S3))


class CapturedError(Exception):
    """A request that a client was about to send."""


def captured(key: Credential, service: str, call: Callable[[Any], object]) -> AWSPreparedRequest:
    """Return what boto3 would send."""
    client: Any = SESSION.client(  # type: ignore[call-overload]  # the stubs know services by literals only
        service, endpoint_url=URL, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}),
        aws_access_key_id=key.access_key_id, aws_secret_access_key=key.secret_access_key,
        aws_session_token=key.session_token or None,
    )  # fmt: skip
    seen: list[AWSPreparedRequest] = []

    def stop(request: AWSPreparedRequest, **_: Any) -> None:
        seen.append(request)
        raise CapturedError

    client.meta.events.register("before-send", stop)
    with pytest.raises(CapturedError):
        call(client)
    return seen[0]


CALLS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "query": ("sts", lambda client: client.get_caller_identity()),
    "ec2": ("ec2", lambda client: client.describe_vpcs()),
    "json": ("sagemaker", lambda client: client.list_models()),
    "cloudwatch": ("cloudwatch", lambda client: client.list_metrics()),
    "rest-json": ("lambda", lambda client: client.list_functions()),
    "runtime": (
        "sagemaker-runtime",
        lambda client: client.invoke_endpoint(EndpointName="e", Body=b'{"a": 1}', TargetModel="x.tar.gz"),
    ),
    "s3": ("s3", lambda client: client.put_object(Bucket="b", Key="a key/with=everything+~", Body=b"content")),
    "s3 list": ("s3", lambda client: client.list_objects_v2(Bucket="b", Prefix="a/b c")),
}


def replay(account: Account, request: AWSPreparedRequest, **changed: Any) -> httpx.Response:
    body = request.body
    content = body.read() if isinstance(body, io.BytesIO) else _bytes(body)
    headers = {name: _text(value) for name, value in request.headers.items()}
    arguments = {"headers": headers, "content": content, **changed}
    return account.send(request.method, request.url.removeprefix(URL), **arguments)


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value or "").encode()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("call", CALLS)
def test_boto3_is_let_through_with_its_body_whole(account: Account, call: str) -> None:
    request = captured(account.key, *CALLS[call])
    assert replay(account, request).text == "handled"
    assert account.handler.callers == [account.key]


@pytest.mark.parametrize("call", CALLS)
def test_boto3_with_a_session_is_let_through_and_without_its_token_is_not(account: Account, call: str) -> None:
    session = account.store.issue("session/role", temporary=True, lifetime_seconds=60)
    assert replay(account, captured(session, *CALLS[call])).status_code == 200
    without = dataclasses.replace(session, session_token="")
    assert replay(account, captured(without, *CALLS[call])).status_code == 403
    assert account.handler.callers == [session]


def test_no_response_lets_a_web_page_read_it(account: Account) -> None:
    headers = account.send("GET", "/", auth=account.auth()).headers
    assert [name for name in headers if name.startswith("access-control")] == []
    assert headers["x-kept"] == "1"


def error_of(response: httpx.Response) -> str:
    """The error's code, as a client of that protocol finds it."""
    if response.headers["content-type"] == "application/cbor":
        return response.headers["x-amzn-query-error"].partition(";")[0]
    if response.headers["content-type"] == "application/json":
        return str(response.json()["__type"])
    code = ElementTree.fromstring(response.content).find(".//{*}Code")
    assert code is not None
    return str(code.text)


REFUSALS = {
    "unsigned": ("MissingAuthenticationToken", "AccessDenied"),
    "wrong secret": ("SignatureDoesNotMatch", "SignatureDoesNotMatch"),
    "unknown key": ("InvalidClientTokenId", "InvalidAccessKeyId"),
    "old": ("RequestExpired", "RequestTimeTooSkewed"),
    "expired key": ("ExpiredTokenException", "ExpiredToken"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("why", REFUSALS)
def test_a_refusal_has_awss_code_in_the_protocol_of_the_service(
    account: Account, call: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = account.key
    if why == "wrong secret":
        key = dataclasses.replace(key, secret_access_key="guessed")
    elif why == "unknown key":
        key = dataclasses.replace(key, access_key_id="AKIA" + "X" * 16)
    elif why == "expired key":
        key = account.store.issue("session/role", temporary=True, lifetime_seconds=-1)
    request = captured(key, *CALLS[call])
    if why == "unsigned":
        del request.headers["Authorization"]
    elif why == "old":
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 901)
    response = replay(account, request)
    assert response.status_code == 403
    # An unsigned request does not name its service: without another hint it is taken for one to S3.
    is_s3 = call.startswith("s3") or (why == "unsigned" and call in ("rest-json", "runtime"))
    assert error_of(response) == REFUSALS[why][is_s3]
    assert account.untouched


@pytest.mark.parametrize("call", ["json", "runtime", "s3"])
def test_a_body_that_was_changed_on_the_way_is_refused(account: Account, call: str) -> None:
    request = captured(account.key, *CALLS[call])
    response = replay(account, request, content=b'{"a": 2}' if call == "runtime" else b"another")
    assert response.status_code in (400, 403)
    assert error_of(response) in ("SignatureDoesNotMatch", "XAmzContentSHA256Mismatch")
    assert account.untouched


def test_a_path_that_was_changed_on_the_way_is_refused(account: Account) -> None:
    request = captured(account.key, *CALLS["runtime"])
    request.url = request.url.replace("/endpoints/e/", "/endpoints/other/")
    assert replay(account, request).status_code == 403
    assert account.untouched


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://example.com"}, {"Origin": "null"}, {"Origin": URL}, {"Origin": "http://localhost:4566"}],
)
def test_no_web_page_is_answered_whatever_it_signs(account: Account, call: str, headers: dict[str, str]) -> None:
    request = captured(account.key, *CALLS[call])
    for name, value in headers.items():
        request.headers[name] = value
    response = replay(account, request)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert account.untouched


@pytest.mark.parametrize(
    "host", ["evil.example.com:4566", "localhost:4566", "127.0.0.1", "127.0.0.1:80", "[::1]:4566", ""]
)
def test_another_hosts_name_that_resolves_here_is_refused(account: Account, host: str) -> None:
    request = captured(account.key, *CALLS["json"])
    request.headers["Host"] = host
    response = replay(account, request)
    assert response.status_code == 403
    assert account.untouched


def test_a_preflight_is_refused_and_allows_nothing(account: Account) -> None:
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    response = account.send("OPTIONS", "/", headers=headers)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert account.send("OPTIONS", "/").status_code == 403
    assert account.untouched


def s3_upload(key: Credential, body: bytes, context: dict[str, Any]) -> AWSPreparedRequest:
    """Sign an upload as boto3 does over HTTPS, where it leaves the payload to TLS."""
    request = AWSRequest("PUT", f"https://{ADDRESS}/bucket/key", data=body)
    request.context.update(context)
    S3SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "s3", "us-east-1").add_auth(request)
    prepared = request.prepare()
    prepared.url = prepared.url.replace("https", "http")
    return prepared


UNSIGNED = {"client_config": Config(s3={"payload_signing_enabled": False}), "has_streaming_input": True}
UNSIGNED_CHUNKS = {"checksum": {"request_algorithm": {"in": "trailer"}}}


@pytest.mark.parametrize("context", [UNSIGNED, UNSIGNED_CHUNKS], ids=["whole", "in chunks"])
def test_s3_takes_a_payload_that_its_head_declares_as_unsigned(account: Account, context: dict[str, Any]) -> None:
    body = b"7\r\ncontent\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    request = s3_upload(account.key, body, context)
    assert "UNSIGNED" in _text(request.headers["X-Amz-Content-SHA256"])
    assert replay(account, request).text == "handled"
    assert account.handler.bodies == [body]


def test_no_other_service_takes_an_unsigned_payload(account: Account) -> None:
    headers = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", "X-Amz-Target": "SageMaker.ListModels"}
    request = AWSRequest("POST", f"{URL}/", headers=headers, data=b"{}")
    key = Credentials(account.key.access_key_id, account.key.secret_access_key)
    SigV4Auth(key, "sagemaker", "us-east-1").add_auth(request)
    assert replay(account, request.prepare()).status_code == 403
    assert account.untouched


def test_a_presigned_upload_needs_no_header(account: Account) -> None:
    request = AWSRequest("PUT", f"{URL}/bucket/key")
    key = Credentials(account.key.access_key_id, account.key.secret_access_key)
    S3SigV4QueryAuth(key, "s3", "us-east-1", expires=60).add_auth(request)
    assert account.send("PUT", str(request.url).removeprefix(URL), content=b"anything").text == "handled"
    other = str(request.url).removeprefix(URL).replace("/bucket/key", "/bucket/other")
    assert account.send("PUT", other, content=b"anything").status_code == 403


def test_a_body_without_a_declared_hash_is_bounded(account: Account) -> None:
    request = captured(account.key, *CALLS["json"])
    response = replay(account, request, content=b"0" * (MAX_UNDECLARED_BYTES + 1))
    assert response.status_code == 413
    assert account.untouched


@pytest.mark.parametrize(
    "path", ["/_ministack/reset", "/_ministack/config", "/_local/publish", "/%5Fministack/reset", "/%5flocal/status"]
)
def test_a_build_or_a_task_does_not_reach_what_runs_the_account(account: Account, path: str) -> None:
    task = account.store.issue("task/1", temporary=True)
    assert account.send("POST", path, auth=account.auth(task)).status_code == 403
    assert account.untouched
    assert account.send("POST", path, auth=account.auth()).status_code == 200


def test_a_revoked_key_opens_nothing(account: Account) -> None:
    task = account.store.issue("task/1", temporary=True)
    assert account.send("GET", "/", auth=account.auth(task)).status_code == 200
    account.store.revoke(task.access_key_id)
    assert account.send("GET", "/", auth=account.auth(task)).status_code == 403


def test_a_head_request_is_refused_without_a_body(account: Account) -> None:
    response = account.send("HEAD", "/bucket/key")
    assert (response.status_code, response.content) == (403, b"")


def test_a_web_socket_is_closed(account: Account) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(account.layer({"type": "websocket", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert account.untouched


def test_two_signatures_at_once_are_one_too_many(account: Account) -> None:
    request = captured(account.key, *CALLS["json"])
    request.url += "?X-Amz-Signature=0&X-Amz-Algorithm=AWS4-HMAC-SHA256"
    assert replay(account, request).status_code == 400
    assert account.untouched


@pytest.fixture(autouse=True)
def no_profile(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield


def test_the_error_of_a_runtime_call_is_what_its_client_raises(account: Account) -> None:
    request = captured(dataclasses.replace(account.key, secret_access_key="x"), *CALLS["runtime"])
    response = replay(account, request)
    assert response.headers["x-amzn-errortype"] == "SignatureDoesNotMatch"
    assert json.loads(response.content)["message"].startswith("The request signature we calculated does not match")


@pytest.mark.parametrize(
    "path", ["/2015-03-31/functions/f/url/../../ff", "/x/../_local/status", "//", "/./", "/%2e%2e/x"]
)
def test_a_path_that_means_another_is_refused_outside_of_s3(account: Account, path: str) -> None:
    request = captured(account.key, *CALLS["json"])
    headers = {name: _text(value) for name, value in request.headers.items()}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": _bytes(request.body), "more_body": False}

    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    scope = {
        "type": "http", "method": "POST", "path": unquote(path), "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", ADDRESS.encode()), *((n.lower().encode(), v.encode()) for n, v in headers.items())],
    }  # fmt: skip
    asyncio.run(account.layer(scope, receive, send))
    assert statuses[0] in (400, 403)
    assert account.untouched


def test_bodies_of_senders_who_are_not_known_yet_are_bounded_together(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local_aws.authentication.middleware.MAX_PENDING_BYTES", 10)
    request = captured(account.key, *CALLS["runtime"])
    assert replay(account, request, content=b"0" * 11).status_code == 503
    assert account.untouched
    assert replay(account, request).status_code == 200
