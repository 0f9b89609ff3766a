"""Signature Version 4 as AWS's services verify it: header and query signatures, payload hashes, signed chunks.

Source: "AWS Signature Version 4 for API requests" in the IAM user guide, and "Authenticating Requests (AWS Signature
Version 4)" in the Amazon S3 API reference.
"""

import hashlib
import hmac
import re
import time
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import quote, unquote, unquote_plus

from local_aws.authentication.errors import AuthenticationError, incomplete, mismatch, missing_token

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW_SECONDS = 900
"""How far a request's date may be from the clock ("Elements of an AWS API request signature": 15 minutes)."""
MAX_PRESIGNED_SECONDS = 7 * 24 * 3600
UNSIGNED = "UNSIGNED-PAYLOAD"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_AND_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
CONTENT_HASH = "x-amz-content-sha256"
_CALLS = ("application/x-www-form-urlencoded", "application/x-amz-json", "application/cbor")
"""Media types of API calls, as opposed to object uploads."""
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()
_HASH = re.compile(r"[0-9a-f]{64}")
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_UNRESERVED = "-_.~"
_QUERY_PARTS = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """Head of a request, as received.

    path: percent-encoded, without the query. headers: keys are lower-case names; repeated headers are joined by commas.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    parameters: tuple[tuple[str, str], ...] = field(init=False)
    """Names and values of the query, decoded."""

    def __post_init__(self) -> None:
        pairs = (part.partition("=") for part in self.query.split("&") if part)
        decoded = tuple((unquote_plus(name), unquote_plus(value)) for name, _, value in pairs)
        object.__setattr__(self, "parameters", decoded)

    @classmethod
    def of(cls, method: str, path: str, query: str, headers: Iterable[tuple[str, str]]) -> "HttpRequest":
        """Build a request, joining repeated headers as SigV4 does."""
        joined: dict[str, str] = {}
        for name, value in headers:
            lower = name.lower()
            joined[lower] = f"{joined[lower]},{value}" if lower in joined else value
        return cls(method, path, query, joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Claims of a request about its sender.

    date: `YYYYMMDD` of the credential scope. timestamp: `YYYYMMDDTHHMMSSZ`. time: the timestamp in seconds since 1970.
    presigned_seconds: lifetime of a query signature, or None for a header signature.
    """

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    time: float
    session_token: str
    presigned_seconds: int | None = None

    @property
    def scope(self) -> str:
        """Credential scope: `DATE/REGION/SERVICE/aws4_request`."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

    @property
    def for_s3(self) -> bool:
        """Whether S3's rules apply: paths are encoded once, and payloads may be unsigned or chunked."""
        return self.service == "s3"


def read_signature(request: HttpRequest) -> Signature:
    """Return the signature in a request's header or query; raise AuthenticationError if missing or malformed."""
    authorization = request.headers.get("authorization")
    names = {name for name, _ in request.parameters}
    in_query = not names.isdisjoint(("X-Amz-Signature", "X-Amz-Algorithm"))
    # S3 accepts Signature Version 2 only for buckets created before June 24, 2020. boto3 presigns with it by default.
    if (authorization or "").startswith("AWS ") or names >= {"AWSAccessKeyId", "Signature"}:
        raise AuthenticationError(
            400,
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
        )
    if authorization is None and not in_query:
        raise missing_token()
    if authorization is not None and in_query:
        raise AuthenticationError(
            400, "InvalidArgument", "Only one auth mechanism allowed: the Authorization header or X-Amz-* parameters"
        )
    return _from_query(request) if authorization is None else _from_header(request, authorization)


def _from_header(request: HttpRequest, authorization: str) -> Signature:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:40]}'. Sign with {ALGORITHM}.")
    pairs = [part.strip().partition("=")[::2] for part in rest.split(",")]
    parts = dict(pairs)
    if len(parts) < len(pairs) or not parts.keys() <= {"Credential", "Signature", "SignedHeaders", ""}:
        # Code after this point would pick one of several in its own way.
        raise incomplete("The Authorization header must have Credential, SignedHeaders and Signature once each")
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    if missing:
        raise incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    return _signature(
        request,
        credential=parts["Credential"],
        signed_headers=parts["SignedHeaders"],
        signature=parts["Signature"],
        timestamp=request.headers.get("x-amz-date") or _http_date(request.headers.get("date", "")),
        session_token=request.headers.get("x-amz-security-token", ""),
        presigned_seconds=None,
    )


def _from_query(request: HttpRequest) -> Signature:
    given = dict(request.parameters)
    names = [name for name, _ in request.parameters]
    if any(names.count(name) > 1 for name in (*_QUERY_PARTS, "X-Amz-Expires", "X-Amz-Security-Token")):
        raise incomplete("Each X-Amz-* query parameter of a signature must appear exactly once")
    missing = [name for name in _QUERY_PARTS if not given.get(name)]
    if missing:
        raise incomplete(" ".join(f"AWS query-string parameters must include '{name}'." for name in missing))
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise incomplete(f"X-Amz-Algorithm is '{given['X-Amz-Algorithm'][:40]}': it must be {ALGORITHM}")
    expires = given.get("X-Amz-Expires", "")
    if not re.fullmatch(r"[0-9]{1,7}", expires) or not 0 < int(expires) <= MAX_PRESIGNED_SECONDS:
        raise AuthenticationError(
            400,
            "AuthorizationQueryParametersError",
            f"X-Amz-Expires is '{expires[:20]}': it must be 1 to {MAX_PRESIGNED_SECONDS} seconds",
        )
    return _signature(
        request,
        credential=given["X-Amz-Credential"],
        signed_headers=given["X-Amz-SignedHeaders"],
        signature=given["X-Amz-Signature"],
        timestamp=given["X-Amz-Date"],
        session_token=given.get("X-Amz-Security-Token", ""),
        presigned_seconds=int(expires),
    )


def _signature(
    request: HttpRequest,
    *,
    credential: str,
    signed_headers: str,
    signature: str,
    timestamp: str,
    session_token: str,
    presigned_seconds: int | None,
) -> Signature:
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise incomplete(
            "Credential must have exactly 5 slash-delimited elements, "
            f"e.g. keyid/date/region/service/aws4_request, got '{credential[:200]}'"
        )
    seconds = _seconds(timestamp)
    if seconds is None:
        raise incomplete("The request needs an X-Amz-Date of the form YYYYMMDDTHHMMSSZ, or a Date header")
    if timestamp[:8] != scope[1]:
        raise mismatch()
    names = tuple(signed_headers.split(";"))
    _require_signed(request, names, scope[3])
    return Signature(
        access_key_id=scope[0],
        date=scope[1],
        region=scope[2],
        service=scope[3],
        signed_headers=names,
        signature=signature,
        timestamp=timestamp,
        time=seconds,
        session_token=session_token,
        presigned_seconds=presigned_seconds,
    )


def _require_signed(request: HttpRequest, names: tuple[str, ...], service: str) -> None:
    """Require signatures on `host` and on every header that changes what a request does, so nobody can alter one."""
    unsigned = [
        name for name, value in request.headers.items() if name not in names and _must_be_signed(name, value, service)
    ]
    if "host" not in names:
        unsigned.insert(0, "host")
    if unsigned:
        raise AuthenticationError(
            403,
            "AccessDenied",
            f"There were headers present in the request which were not signed: {', '.join(unsigned)[:200]}",
        )


def _must_be_signed(name: str, value: str, service: str) -> bool:
    """Return whether a header must be signed.

    AWS requires it of `x-amz-*`. If the other headers were unsigned, an unsigned upload could become a call to another
    service.
    """
    if name.startswith("x-amz-"):
        return True
    if service != "s3":
        return False
    if name == "content-encoding":
        return "aws-chunked" in value.lower()
    return name == "content-type" and value.lower().startswith(_CALLS)


def check_time(signature: Signature, now: float | None = None) -> None:
    """Raise AuthenticationError for a request that is too old, in the future, or past its presigned lifetime."""
    now = time.time() if now is None else now
    if signature.presigned_seconds is not None:
        if now > signature.time + signature.presigned_seconds:
            raise AuthenticationError(
                403, "AccessDenied" if signature.for_s3 else "RequestExpired", "Request has expired"
            )
        if signature.time > now + MAX_SKEW_SECONDS:
            raise AuthenticationError(
                403, "AccessDenied" if signature.for_s3 else "RequestExpired", "Request is not valid yet"
            )
        return
    if abs(now - signature.time) <= MAX_SKEW_SECONDS:
        return
    early = signature.time < now
    what, than = ("expired", "now earlier than") if early else ("not yet current", "still later than")
    limit = _stamp(now - MAX_SKEW_SECONDS if early else now + MAX_SKEW_SECONDS)
    raise AuthenticationError(
        403,
        "RequestExpired",
        f"Signature {what}: {signature.timestamp} is {than} {limit} ({_stamp(now)} {'-' if early else '+'} 15 min.)",
    )


def payload_hash(signature: Signature, request: HttpRequest) -> str | None:
    """Return the payload hash that the head declares, or None if the body's own hash was signed.

    A declared hash is signed like any header, so the head can be verified before the body is read. Raises
    AuthenticationError for a declaration that the service does not accept.
    """
    declared = request.headers.get(CONTENT_HASH)
    if not signature.for_s3:
        if declared is not None and not _HASH.fullmatch(declared):
            raise mismatch()
        return declared
    if signature.presigned_seconds is not None:
        return declared or UNSIGNED
    if declared is None:
        raise AuthenticationError(400, "InvalidRequest", f"Missing required header for this request: {CONTENT_HASH}")
    if declared in (UNSIGNED, UNSIGNED_CHUNKS, SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER) or _HASH.fullmatch(declared):
        return declared
    raise AuthenticationError(
        400,
        "InvalidArgument",
        f"{CONTENT_HASH} must be {UNSIGNED}, {UNSIGNED_CHUNKS}, {SIGNED_CHUNKS}, {SIGNED_CHUNKS_AND_TRAILER}, or a "
        "valid sha256 value.",
    )


def is_hash(declared: str) -> bool:
    """Return whether a declared payload hash is a sha256, not the name of an unhashed payload type."""
    return _HASH.fullmatch(declared) is not None


def verify(signature: Signature, request: HttpRequest, secret: str, hashed_payload: str) -> None:
    """Raise AuthenticationError unless the signature covers exactly this request and uses this secret."""
    canonical = "\n".join(
        (
            request.method,
            _canonical_path(request.path, signature.for_s3),
            _canonical_query(request),
            *(f"{name}:{_collapsed(request.headers.get(name, ''))}" for name in signature.signed_headers),
            "",
            ";".join(signature.signed_headers),
            hashed_payload,
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    expected = _sign(signature, secret, "\n".join((ALGORITHM, signature.timestamp, signature.scope, digest)))
    if not hmac.compare_digest(expected.encode(), signature.signature.encode()):
        raise mismatch()


def _collapsed(value: str) -> str:
    """Trim ASCII whitespace and collapse runs of it; other whitespace belongs to the value."""
    return " ".join(part for part in value.replace("\t", " ").split(" ") if part)


def verify_chunks(signature: Signature, secret: str, body: bytes, *, trailer: bool) -> None:
    """Raise AuthenticationError unless every chunk of an `aws-chunked` body has its signature, through the last chunk.

    trailer: whether the headers after the last chunk are signed too.
    """
    previous, position, last = signature.signature, 0, False
    while not last:
        end = body.find(b"\r\n", position)
        head = body[position:end].decode("latin-1") if end >= 0 else ""
        size, separator, given = head.partition(";chunk-signature=")
        if not separator or not re.fullmatch(r"[0-9a-fA-F]{1,12}", size):
            raise mismatch()
        begin, length = end + 2, int(size, 16)
        chunk = body[begin : begin + length]
        if len(chunk) != length:
            raise mismatch()
        hashed = hashlib.sha256(chunk).hexdigest()
        text = f"{ALGORITHM}-PAYLOAD\n{signature.timestamp}\n{signature.scope}\n{previous}\n{_EMPTY_HASH}\n{hashed}"
        expected = _sign(signature, secret, text)
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise mismatch()
        previous, last = expected, length == 0
        position = begin if last else begin + length + 2
    if trailer:
        _verify_trailer(signature, secret, previous, body[position:])


def _verify_trailer(signature: Signature, secret: str, previous: str, trailer: bytes) -> None:
    lines = [line for line in trailer.decode("latin-1").split("\r\n") if line]
    given = ""
    canonical = ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "x-amz-trailer-signature":
            given = value.strip()
        else:
            canonical += f"{name.lower()}:{value.strip()}\n"
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}-TRAILER\n{signature.timestamp}\n{signature.scope}\n{previous}\n{hashed}"
    if not hmac.compare_digest(_sign(signature, secret, text).encode(), given.encode()):
        raise mismatch()


def _sign(signature: Signature, secret: str, text: str) -> str:
    key = _signing_key(secret, signature.date, signature.region, signature.service)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=1024)
def _canonical_path(path: str, for_s3: bool) -> str:
    """Encode a path once for S3, which does not normalize it; for other services, normalize and encode it twice."""
    if for_s3:
        return "/".join(quote(unquote(segment), safe=_UNRESERVED) for segment in path.split("/")) or "/"
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    normalized = "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")
    return quote(normalized, safe=f"/{_UNRESERVED}")


def _canonical_query(request: HttpRequest) -> str:
    if not request.parameters:
        return ""
    pairs = sorted(
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in request.parameters
        if name != "X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def _http_date(value: str) -> str:
    """Convert an HTTP date to SigV4's form; return an empty string if it is invalid."""
    try:
        return parsedate_to_datetime(value).astimezone(UTC).strftime(_TIMESTAMP)
    except (ValueError, OverflowError):
        return ""


@lru_cache(maxsize=64)
def _seconds(timestamp: str) -> float | None:
    try:
        return float(timegm(time.strptime(timestamp, _TIMESTAMP)))
    except ValueError:
        return None


def _stamp(seconds: float) -> str:
    return time.strftime(_TIMESTAMP, time.gmtime(seconds))
