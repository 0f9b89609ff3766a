"""Ways to send a request; all users of a worker share one sender."""

import json
import socket
import ssl
from typing import Protocol

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from urllib3.exceptions import HTTPError

from load_tests.closed_loop import Request, Target, client, invoke
from load_tests.plan import HttpTarget, Place, Plan, SageMakerTarget

_CONNECT_SECONDS = 10.0
_VARIANT = "X-Amzn-SageMaker-Target-Variant"
_COMPONENT = "X-Amzn-SageMaker-Inference-Component"
_MODEL = "X-Amzn-SageMaker-Target-Model"


class SendFailedError(RuntimeError):
    """A request was refused or not answered; the message is the kind of failure, one of a small set."""


class Sender(Protocol):
    """Sender that any number of users can use at once."""

    def send(self, request: Request, place: Place) -> int:
        """Wait for the whole response and return its size in bytes; raises SendFailedError."""


def sender(plan: Plan) -> Sender:
    """Return the plan's sender: boto3 or a fast client for InvokeEndpoint, plain HTTP for other servers."""
    if isinstance(plan.target, HttpTarget):
        return _Http(plan.target, plan.in_flight_of_a_worker, plan.timeout)
    if plan.client == "fast":
        return _Signed(plan.target, plan.in_flight_of_a_worker, plan.timeout)
    return _Boto3(plan.target, plan.in_flight_of_a_worker, plan.timeout)


class _Boto3:
    """The client library that applications use, with one connection per request in flight."""

    def __init__(self, target: SageMakerTarget, connections: int, timeout: float) -> None:
        self._runtime = client(connections=connections, read_seconds=timeout)
        self._target = Target(target.endpoint, target.variant, target.component)

    def send(self, request: Request, place: Place) -> int:  # noqa: ARG002 - only HTTP targets have several places
        try:
            return len(invoke(self._runtime, self._target, request))
        except ClientError as error:
            raise SendFailedError(_kind(error)) from error
        except HTTPClientError as error:
            raise SendFailedError(type(error).__name__) from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise SendFailedError(type(error).__name__) from error


def _kind(error: ClientError) -> str:
    response = error.response
    status = response.get("OriginalStatusCode") or response["ResponseMetadata"].get("HTTPStatusCode", "")
    return f"{response['Error'].get('Code', 'ClientError')} {status}".strip()


class _Connections:
    """Keep-alive connections to one server, as in Locust's FastHttpUser."""

    def __init__(self, url: str, connections: int, timeout: float) -> None:
        self._client = HTTPClient.from_url(
            url,
            concurrency=connections,
            connection_timeout=_CONNECT_SECONDS,
            network_timeout=timeout,
            ssl_context_factory=ssl.create_default_context,
        )
        # The pool's own hook for new connections. Without TCP_NODELAY, the last segment of a body waits for an
        # acknowledgement, which the other side may delay by 40 ms.
        vars(self._client._connection_pool)["after_connect"] = _send_at_once

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Return status and body; raises SendFailedError without a response."""
        try:
            response = self._client.post(path, body, headers)
            content = bytes(response.read())
            return int(response.status_code), content
        except (OSError, HTTPParseError, HTTPConnectionClosed) as error:
            raise SendFailedError(type(error).__name__) from error


def _send_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Http:
    """POST requests to a path on each server."""

    def __init__(self, target: HttpTarget, connections: int, timeout: float) -> None:
        self._servers = {url: _Connections(url, connections, timeout) for url in target.urls}

    def send(self, request: Request, place: Place) -> int:
        headers = {"Content-Type": request.content_type, "Accept": request.accept}
        status, body = self._servers[place.url].post(place.path, request.body, headers)
        if status != 200:
            raise SendFailedError(f"HTTP {status}")
        return len(body)


class _Signed:
    """InvokeEndpoint without boto3: the request is assembled here and signed by botocore."""

    def __init__(self, target: SageMakerTarget, connections: int, timeout: float) -> None:
        session = boto3.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise SendFailedError("there are no AWS credentials: set AWS_PROFILE, or run with a role")
        self._credentials = credentials
        self._region = str(session.region_name)
        # Take the address from boto3's own client, which applies the region and endpoint overrides.
        self._url = str(client().meta.endpoint_url).rstrip("/")
        self._path = f"/endpoints/{target.endpoint}/invocations"
        self._server = _Connections(self._url, connections, timeout)
        self._headers = {_COMPONENT: target.component} if target.component is not None else {_VARIANT: target.variant}

    def send(self, request: Request, place: Place) -> int:  # noqa: ARG002 - only HTTP targets have several places
        headers = {"Content-Type": request.content_type, "Accept": request.accept, **self._headers}
        if request.target_model is not None:
            headers[_MODEL] = request.target_model
        signed = AWSRequest("POST", self._url + self._path, data=request.body, headers=headers)
        SigV4Auth(self._credentials.get_frozen_credentials(), "sagemaker", self._region).add_auth(signed)
        status, body = self._server.post(self._path, request.body, dict(signed.headers))
        if status != 200:
            raise SendFailedError(_refusal(status, body))
        return len(body)


def _refusal(status: int, body: bytes) -> str:
    """Name a failure as boto3 does: the error's code, then the container's status, or the response's without one."""
    try:
        error = json.loads(body)
        code = str(error.get("__type") or error.get("Code") or "").rpartition("#")[2]
        return f"{code or 'HTTP'} {error.get('OriginalStatusCode') or status}"
    except (ValueError, AttributeError):
        return f"HTTP {status}"
