"""A container's model data: an archive to extract, files to copy, or nothing."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.hosting.artifacts import (
    MAX_EXTRACTED_BYTES,
    MAX_MEMBERS,
    AbsentError,
    DiskError,
    ModelDataError,
    extracted,
    s3_client,
)
from local_aws.hosting.errors import refused
from local_aws.hosting.s3_urls import LocationError, S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    tag: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelData:
    """Where model data lies in S3.

    compressed: whether it is a `.tar.gz`. prefix: whether the URL is the prefix of several objects.
    """

    url: str
    compressed: bool = True
    prefix: bool = False

    @classmethod
    def of(cls, container: Document) -> "ModelData | None":
        """Return a container's model data, or None if it has none; raise ApiError for what cannot be served."""
        url, source = container.get("ModelDataUrl"), container.get("ModelDataSource")
        if url and source:
            raise refused("ModelDataUrl and ModelDataSource are both set: use only one of them")
        if not url and not source:
            return None
        data = cls(url) if url else cls._of_source((source or {}).get("S3DataSource"))
        try:
            S3Location.parse(data.url)
        except LocationError as error:
            raise refused(str(error)) from None
        return data

    @classmethod
    def _of_source(cls, source: Document | None) -> "ModelData":
        if source is None:
            raise refused("ModelDataSource.S3DataSource is missing")
        compressed, prefix = source["CompressionType"] == "Gzip", source["S3DataType"] == "S3Prefix"
        if compressed and prefix:
            raise refused("S3DataSource has CompressionType Gzip and S3DataType S3Prefix: an archive is an S3Object")
        if prefix and not source["S3Uri"].endswith("/"):
            raise refused(f"S3Uri is {source['S3Uri']!r}: with S3DataType S3Prefix it must end with a slash")
        return cls(source["S3Uri"], compressed, prefix)

    def folder(self, state: Path, expected_sha256: str = "") -> Path:
        """Return the folder with the model's files, fetched if they are new or have changed; blocks.

        expected_sha256: hash of the archive, in hex; empty if unknown. Raises ModelDataError.
        """
        return extracted(state, self.url, expected_sha256) if self.compressed else self._copied(state)

    def _copied(self, state: Path) -> Path:
        location, s3 = S3Location.parse(self.url), s3_client()
        try:
            objects = self._objects(s3, location)
            tags = " ".join(f"{each.key} {each.tag}" for each in objects)
            final = state / "models" / hashlib.sha256(f"{self.url} {tags}".encode()).hexdigest()[:24]
            if not final.is_dir():
                with tempfile.TemporaryDirectory(dir=state / "tmp", ignore_cleanup_errors=True) as partial:
                    folder = Path(partial) / "model"
                    folder.mkdir()
                    for each in objects:
                        target = folder / self._name(location, each.key)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        s3.download_file(location.bucket, each.key, str(target))
                    if not final.is_dir():
                        folder.rename(final)
        except (ClientError, BotoCoreError) as error:
            raise ModelDataError(f"could not download model data from {self.url}: {error}") from error
        except OSError as error:
            raise DiskError(f"could not store model data from {self.url}: {error}") from error
        return final

    def _objects(self, s3: "S3Client", location: S3Location) -> list[_Object]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=location.bucket, Prefix=location.key)
        objects = [
            _Object(each["Key"], each["ETag"], each["Size"])
            for page in pages
            for each in page.get("Contents", [])
            if not each["Key"].endswith("/") and (self.prefix or each["Key"] == location.key)
        ]
        if not objects:
            raise AbsentError(f"could not download model data from {self.url}: there is no such object")
        if len(objects) > MAX_MEMBERS or sum(each.bytes for each in objects) > MAX_EXTRACTED_BYTES:
            raise ModelDataError(
                f"{self.url} holds {len(objects)} objects: at most {MAX_MEMBERS} with {MAX_EXTRACTED_BYTES} bytes"
            )
        return objects

    def _name(self, location: S3Location, key: str) -> str:
        if not self.prefix:
            return PurePosixPath(key).name
        name = key.removeprefix(location.key)
        if name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise ModelDataError(f"{key[:100]!r} is no path below {self.url}")
        return name
