"""Authentication errors with AWS's codes and messages, rendered in the called service's protocol."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from xml.sax.saxutils import escape

_XMLNS = "http://webservices.amazon.com/AWSFault/2005-15-09"
"""Namespace of errors that AWS raises before the service sees the request."""
_S3 = {
    "MissingAuthenticationToken": ("AccessDenied", "Access Denied"),
    "InvalidClientTokenId": (
        "InvalidAccessKeyId",
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    "RequestExpired": (
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
    ),
    "ExpiredTokenException": ("ExpiredToken", "The provided token has expired."),
}
"""S3's own codes and messages ("Error responses" in the Amazon S3 API reference)."""


# Not frozen: context managers that an exception leaves through set its __traceback__.
@dataclass(slots=True, eq=False)
class AuthenticationError(Exception):
    """A request that is refused before any handler sees it.

    status: HTTP status. code: one of AWS's common errors, under the name that most services give it.
    """

    status: int
    code: str
    message: str

    def __str__(self) -> str:
        return self.message


def missing_token() -> AuthenticationError:
    """Return the error for an unsigned request."""
    return AuthenticationError(403, "MissingAuthenticationToken", "Request is missing Authentication Token")


def invalid_key() -> AuthenticationError:
    """Return the error for an access key or session token that the account does not have."""
    return AuthenticationError(403, "InvalidClientTokenId", "The security token included in the request is invalid.")


def mismatch() -> AuthenticationError:
    """Return the error for a signature that does not match the request."""
    return AuthenticationError(
        403,
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.",
    )


def incomplete(message: str) -> AuthenticationError:
    """Return the error for a signature with a missing or malformed part."""
    return AuthenticationError(400, "IncompleteSignature", message)


class Protocol(Enum):
    """How a service writes its errors."""

    S3 = auto()
    EC2 = auto()
    QUERY = auto()
    JSON = auto()
    CBOR = auto()


def protocol_of(service: str, headers: Mapping[str, str], query: str, anonymous: Protocol) -> Protocol:
    """Return a request's protocol, from its headers and the service in its credential scope (may be empty).

    anonymous: protocol of a request that does not name a service.
    """
    if headers.get("smithy-protocol") == "rpc-v2-cbor":
        return Protocol.CBOR
    content_type = headers.get("content-type", "")
    if "x-amz-target" in headers or content_type.startswith("application/x-amz-json"):
        return Protocol.JSON
    if service == "ec2":
        return Protocol.EC2
    if content_type.startswith("application/x-www-form-urlencoded") or "Action=" in query:
        return Protocol.QUERY
    if not service:
        return anonymous
    return Protocol.S3 if service == "s3" else Protocol.JSON


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An HTTP response. headers: keys are lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


def render(error: AuthenticationError, protocol: Protocol) -> ErrorResponse:
    """Render an error in the form that the protocol's clients parse."""
    request_id = str(uuid.uuid4())
    code, message = error.code, error.message
    if protocol is Protocol.S3:
        code, message = _S3.get(code, (code, message))
    xml = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    match protocol:
        case Protocol.S3:
            body = f"<Error>{xml}<RequestId>{request_id}</RequestId><HostId>local</HostId></Error>"
        case Protocol.EC2:
            body = f"<Response><Errors><Error>{xml}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
        case Protocol.QUERY:
            body = (
                f'<ErrorResponse xmlns="{_XMLNS}"><Error><Type>Sender</Type>{xml}</Error>'
                f"<RequestId>{request_id}</RequestId></ErrorResponse>"
            )
        case Protocol.JSON:
            body = json.dumps({"__type": code, "message": message, "Message": message})
            return ErrorResponse(
                error.status,
                {"content-type": "application/json", "x-amzn-errortype": code, "x-amzn-requestid": request_id},
                body.encode(),
            )
        case Protocol.CBOR:
            return ErrorResponse(
                error.status,
                {
                    "content-type": "application/cbor",
                    "smithy-protocol": "rpc-v2-cbor",
                    "x-amzn-requestid": request_id,
                    "x-amzn-query-error": f"{code};Sender",
                },
                b"\xa2" + _cbor("__type") + _cbor(code) + _cbor("message") + _cbor(message),
            )
    document = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
    return ErrorResponse(error.status, {"content-type": "text/xml", "x-amz-request-id": request_id}, document)


def _cbor(text: str) -> bytes:
    """Encode text of up to 65,535 bytes as CBOR (RFC 8949, major type 3 with a 16-bit length)."""
    encoded = text.encode()
    return b"\x79" + len(encoded).to_bytes(2, "big") + encoded
