"""A fake of boto3's S3 client for builds."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3.exceptions
import botocore.exceptions
import pytest


@dataclass
class FakeS3:
    """The three calls of boto3's S3 client that a build makes, over a dictionary; a refused key raises."""

    objects: dict[str, bytes] = field(default_factory=dict)
    refused: str | None = None

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, io.BytesIO]:  # noqa: N803 - boto3's names
        if f"{Bucket}/{Key}" not in self.objects:
            raise botocore.exceptions.ClientError(
                {"Error": {"Code": "NoSuchKey", "Message": "The specified key does not exist."}}, "GetObject"
            )
        return {"Body": io.BytesIO(self.objects[f"{Bucket}/{Key}"])}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: Any) -> None:  # noqa: N803 - boto3's names
        self.objects[f"{Bucket}/{Key}"] = Body

    def upload_file(self, path: str, bucket: str, key: str, **_: Any) -> None:
        if self.refused is not None and key.endswith(self.refused):
            raise boto3.exceptions.S3UploadFailedError("AccessDenied")
        self.objects[f"{bucket}/{key}"] = Path(path).read_bytes()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> FakeS3:
    fake = FakeS3()
    monkeypatch.setattr("boto3.client", lambda _: fake)
    return fake
