"""SigV4 signatures for HTTP requests made without an AWS client, such as those to a local account's own pages."""

from collections.abc import Generator, Mapping

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

_SERVICE = "sagemaker"
_SIGNED = ("content-type", "x-amz-target")


class Signer:
    """A signer of HTTP requests.

    environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, plus AWS_SESSION_TOKEN for temporary keys.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        key = Credentials(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN") or None,
        )
        self._signer = SigV4Auth(key, _SERVICE, environment["AWS_REGION"])

    def headers(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers of a request with those of its signature, which covers all of them."""
        request = AWSRequest(method, url, headers=dict(headers), data=body)
        self._signer.add_auth(request)
        return dict(request.headers.items())


class SignedRequests(httpx.Auth):
    """HTTPX authentication that adds a SigV4 signature to every request of a client.

    environment: as for Signer.
    """

    requires_request_body = True

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._signer = Signer(environment)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request as it will be sent."""
        headers = {name: request.headers[name] for name in _SIGNED if name in request.headers}
        request.headers.update(self._signer.headers(request.method, str(request.url), headers, request.content))
        yield request
