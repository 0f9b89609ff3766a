"""Files of load test requests, and documents stored as files or S3 objects."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path

import boto3

from load_tests.closed_loop import Request


def read_document(url: str) -> str:
    """Read the text at a path or s3:// URL; errors of the file system or the client library pass through."""
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return Path(url).read_text()


def write_document(url: str, text: str) -> None:
    """Write text to a path or s3:// URL, replacing it; errors of the file system or the client library pass through."""
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=text.encode())
        return
    path = Path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_feed(url: str, requests: Iterable[Request]) -> None:
    """Write one line of JSON per request, with its body in base64."""
    lines = [
        json.dumps(
            {
                "body": base64.b64encode(request.body).decode(),
                "content_type": request.content_type,
                "accept": request.accept,
                "target_model": request.target_model,
            }
        )
        for request in requests
    ]
    write_document(url, "\n".join(lines) + "\n")


def read_feed(url: str) -> list[Request]:
    """Read a file of requests from `write_feed`; raises ValueError if it has none."""
    rows = [json.loads(line) for line in read_document(url).splitlines() if line]
    if not rows:
        raise ValueError(f"feed is {url}, which has no requests: give at least one")
    return [
        Request(
            body=base64.b64decode(row["body"]),
            content_type=row["content_type"],
            accept=row["accept"],
            target_model=row["target_model"],
        )
        for row in rows
    ]
