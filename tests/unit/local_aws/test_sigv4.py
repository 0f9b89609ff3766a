"""Signatures, against botocore's signer and the examples of AWS's documentation."""

import hashlib
from collections.abc import Mapping
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from local_aws.authentication.errors import AuthenticationError
from local_aws.authentication.sigv4 import (
    MAX_SKEW_SECONDS,
    HttpRequest,
    Signature,
    check_time,
    payload_hash,
    read_signature,
    verify,
    verify_chunks,
)

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
KEY = Credentials("AKIAIOSFODNN7EXAMPLE", SECRET)
HOST = "127.0.0.1:4566"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)


def as_received(url: str, method: str, headers: Mapping[str, str]) -> HttpRequest:
    path, _, query = url.partition(HOST)[2].partition("?")
    return HttpRequest.of(method, path, query, [("Host", HOST), *headers.items()])


def signed(method: str, url: str, body: bytes, service: str, headers: Mapping[str, str] | None = None) -> HttpRequest:
    request = AWSRequest(method, url, headers=dict(headers or {}), data=body)
    (S3SigV4Auth if service == "s3" else SigV4Auth)(KEY, service, "us-east-1").add_auth(request)
    return as_received(str(request.url), method, dict(request.headers.items()))


def is_valid(request: HttpRequest, body: bytes, secret: str = SECRET) -> bool:
    try:
        signature = read_signature(request)
        verify(signature, request, secret, payload_hash(signature, request) or hashlib.sha256(body).hexdigest())
    except AuthenticationError as error:
        assert error.code == "SignatureDoesNotMatch"
        return False
    return True


@given(
    service=st.sampled_from(["s3", "sagemaker", "sts"]),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    segments=st.lists(TEXT, max_size=3),
    query=st.dictionaries(TEXT, TEXT, max_size=3),
    body=st.binary(max_size=50),
    target=st.sampled_from(["SageMaker.ListModels", "  spaced   out  "]),
)
def test_what_botocore_signs_is_accepted_and_by_no_other_secret(
    service: str, method: str, segments: list[str], query: dict[str, str], body: bytes, target: str
) -> None:
    path = "/" + "/".join(quote(segment, safe="~") for segment in segments)
    rest = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    url = f"http://{HOST}{path}" + (f"?{rest}" if rest else "")
    request = signed(method, url, body, service, {"X-Amz-Target": target, "Content-Type": "application/json"})
    assert is_valid(request, body)
    assert not is_valid(request, body, secret="another")


@given(st.sampled_from(["method", "path", "query", "header", "body"]), st.sampled_from(["s3", "sagemaker"]))
def test_whatever_is_changed_afterwards_is_noticed(part: str, service: str) -> None:
    url, body = f"http://{HOST}/endpoints/a/invocations?x=1", b'{"question": "?"}'
    request = signed("POST", url, body, service, {"X-Amz-Target": "Service.Operation"})
    method, path, query, headers = request.method, request.path, request.query, dict(request.headers)
    match part:
        case "method":
            method = "PUT"
        case "path":
            path = "/endpoints/b/invocations"
        case "query":
            query = "x=2"
        case "header":
            headers["x-amz-target"] = "Service.Another"
        case "body":
            body = b"{}"
            headers.pop("x-amz-content-sha256", None)
            if service == "s3":
                headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    if part == "body" and service == "sagemaker":
        assert not is_valid(HttpRequest(method, path, query, headers), body)
        return
    assert not is_valid(HttpRequest(method, path, query, headers), body)


@pytest.mark.parametrize("key", ["a/b/../c", "two//slashes", "ünïcode", "a+b", "a b", "50%", "~!*'()=&;:@,$"])
def test_s3_keeps_a_keys_path_as_it_is(key: str) -> None:
    assert is_valid(signed("GET", f"http://{HOST}/bucket/{quote(key, safe='/~')}", b"", "s3"), b"")


@pytest.mark.parametrize("service", ["s3", "sts"])
def test_a_presigned_url_is_valid_for_as_long_as_it_says(service: str) -> None:
    request = AWSRequest("GET", f"http://{HOST}/bucket/key?list-type=2")
    signer = S3SigV4QueryAuth if service == "s3" else SigV4QueryAuth
    signer(KEY, service, "us-east-1", expires=60).add_auth(request)
    received = as_received(str(request.url), "GET", {})
    assert is_valid(received, b"")
    signature = read_signature(received)
    check_time(signature, signature.time + 59)
    with pytest.raises(AuthenticationError, match="Request has expired"):
        check_time(signature, signature.time + 61)
    with pytest.raises(AuthenticationError, match="not valid yet"):
        check_time(signature, signature.time - MAX_SKEW_SECONDS - 1)


@pytest.mark.parametrize("offset", [-MAX_SKEW_SECONDS - 1, MAX_SKEW_SECONDS + 1])
def test_a_clock_may_be_a_quarter_of_an_hour_off_and_no_more(offset: int) -> None:
    signature = read_signature(signed("GET", f"http://{HOST}/", b"", "sts"))
    check_time(signature, signature.time + offset * 0.99)
    with pytest.raises(AuthenticationError, match=r"Signature (expired|not yet current)") as refused:
        check_time(signature, signature.time + offset)
    assert refused.value.code == "RequestExpired"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "MissingAuthenticationToken"),
        ("AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=", "InvalidRequest"),
        ("AWS4-HMAC-SHA256", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=0", "IncompleteSignature"),
        ("AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sts/aws4_request, Signature=0", "IncompleteSignature"),
        ("Bearer token", "IncompleteSignature"),
        (
            "AWS4-HMAC-SHA256 Credential=b/20260101/us-east-1/sts/aws4_request, "
            "Credential=a/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0",
            "IncompleteSignature",
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0, X=1",
            "IncompleteSignature",
        ),
        ("", "IncompleteSignature"),
    ],
)
def test_a_header_that_is_no_signature_is_refused_with_what_it_lacks(header: str | None, code: str) -> None:
    headers = [("Host", HOST), ("X-Amz-Date", "20260101T000000Z")]
    request = HttpRequest.of("GET", "/", "", headers if header is None else [*headers, ("Authorization", header)])
    with pytest.raises(AuthenticationError) as refused:
        read_signature(request)
    assert refused.value.code == code


def test_a_url_presigned_by_version_2_is_refused_with_the_version_to_use() -> None:
    query = "AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
    with pytest.raises(AuthenticationError, match="Please use AWS4-HMAC-SHA256"):
        read_signature(HttpRequest.of("GET", "/bucket/key", query, [("Host", HOST)]))


@pytest.mark.parametrize("date", ["", "yesterday", "20260101", "2026-01-01T00:00:00Z", "99999999T999999Z"])
def test_a_request_without_a_date_is_refused(date: str) -> None:
    request = signed("GET", f"http://{HOST}/", b"", "sts")
    with pytest.raises(AuthenticationError):
        read_signature(HttpRequest("GET", "/", "", {**request.headers, "x-amz-date": date}))


def test_the_date_of_the_key_is_that_of_the_request() -> None:
    request = signed("GET", f"http://{HOST}/", b"", "sts")
    with pytest.raises(AuthenticationError):
        read_signature(HttpRequest("GET", "/", "", {**request.headers, "x-amz-date": "20200101T000000Z"}))


def test_a_header_of_awss_that_was_not_signed_is_refused() -> None:
    request = signed("POST", f"http://{HOST}/", b"", "sagemaker")
    with pytest.raises(AuthenticationError, match="not signed: x-amz-target"):
        read_signature(HttpRequest("POST", "/", "", {**request.headers, "x-amz-target": "SageMaker.DeleteModel"}))


@pytest.mark.parametrize("expires", ["", "0", "-1", "604801", "1e3", "x"])
def test_a_presigned_lifetime_is_a_week_at_most(expires: str) -> None:
    request = AWSRequest("GET", f"http://{HOST}/bucket/key")
    S3SigV4QueryAuth(KEY, "s3", "us-east-1", expires=60).add_auth(request)
    url = str(request.url).replace("X-Amz-Expires=60", f"X-Amz-Expires={expires}")
    with pytest.raises(AuthenticationError, match="X-Amz-Expires"):
        read_signature(as_received(url, "GET", {}))


# "Signature calculations for the Authorization header: Transferring payload in multiple chunks", S3 API reference.
CHUNK_HEADERS = {
    "Host": "s3.amazonaws.com",
    "x-amz-date": "20130524T000000Z",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
    "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "Content-Encoding": "aws-chunked",
    "x-amz-decoded-content-length": "66560",
    "Content-Length": "66824",
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
    "SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
    "x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
}
CHUNKS = (
    (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
    (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
    (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
)


def chunked() -> tuple[Signature, bytes]:
    request = HttpRequest.of("PUT", "/examplebucket/chunkObject.txt", "", CHUNK_HEADERS.items())
    signature = read_signature(request)
    verify(signature, request, SECRET, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    body = b"".join(f"{size:x};chunk-signature={sig}\r\n".encode() + b"a" * size + b"\r\n" for size, sig in CHUNKS)
    return signature, body


def test_the_documentations_chunked_upload_is_accepted() -> None:
    signature, body = chunked()
    verify_chunks(signature, SECRET, body, trailer=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"aaaa", b"aaab", 1),
        lambda body: body[: body.rindex(b"0;chunk")],
        lambda body: body[body.index(b"400;") :],
        lambda body: body.replace(b"chunk-signature=b6c6", b"chunk-signature=b6c7"),
        lambda _body: b"",
        lambda _body: b"ffffffff;chunk-signature=0\r\n",
        lambda _body: b"-1;chunk-signature=0\r\n\r\n",
    ],
)
def test_a_chunk_that_was_changed_dropped_or_cut_is_noticed(change: object) -> None:
    assert callable(change)
    signature, body = chunked()
    with pytest.raises(AuthenticationError):
        verify_chunks(signature, SECRET, change(body), trailer=False)


# "Signature calculations for the Authorization header: Including trailing headers", S3 API reference.
TRAILER_HEADERS = {
    "Host": "s3.amazonaws.com",
    "x-amz-date": "20130524T000000Z",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
    "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "Content-Encoding": "aws-chunked",
    "x-amz-decoded-content-length": "66560",
    "x-amz-trailer": "x-amz-checksum-crc32c",
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
    "SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
    "x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
}
TRAILER_CHUNKS = (
    (65536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
    (1024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
    (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
)
TRAILER = (
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
)


def test_a_signed_trailer_is_accepted_and_a_changed_one_is_not() -> None:
    request = HttpRequest.of("PUT", "/examplebucket/chunkObject.txt", "", TRAILER_HEADERS.items())
    signature = read_signature(request)
    verify(signature, request, SECRET, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")
    parts = [
        f"{size:x};chunk-signature={sig}\r\n".encode() + b"a" * size + (b"\r\n" if size else b"")
        for size, sig in TRAILER_CHUNKS
    ]
    verify_chunks(signature, SECRET, b"".join(parts) + TRAILER, trailer=True)
    for changed in (TRAILER.replace(b"sOO8", b"sOO9"), b"\r\n"):
        with pytest.raises(AuthenticationError):
            verify_chunks(signature, SECRET, b"".join(parts) + changed, trailer=True)


@pytest.mark.parametrize(
    "header",
    [
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/x-amz-json-1.1"),
        ("content-encoding", "aws-chunked"),
    ],
)
def test_a_header_that_would_make_an_upload_something_else_must_be_signed(header: tuple[str, str]) -> None:
    request = signed("POST", f"http://{HOST}/bucket/key?uploads", b"", "s3")
    with pytest.raises(AuthenticationError, match=f"not signed: {header[0]}"):
        read_signature(HttpRequest("POST", "/bucket/key", "uploads", {**request.headers, header[0]: header[1]}))


def test_a_date_beyond_the_calendar_is_none() -> None:
    request = HttpRequest.of("GET", "/", "", [("Host", HOST), ("Date", "Fri, 31 Dec 9999 23:59:59 -2359")])
    authorization = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0"
    with pytest.raises(AuthenticationError, match="X-Amz-Date"):
        read_signature(HttpRequest("GET", "/", "", {**request.headers, "authorization": authorization}))


def test_a_space_that_is_not_ascii_is_part_of_a_value() -> None:
    request = signed("PUT", f"http://{HOST}/bucket/key", b"", "s3", {"x-amz-meta-a": "x  y"})
    assert is_valid(request, b"")
    assert not is_valid(HttpRequest("PUT", "/bucket/key", "", {**request.headers, "x-amz-meta-a": "x\u00a0y"}), b"")
