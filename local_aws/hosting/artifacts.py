"""Model archives from the account's S3, extracted with nothing in them taken on trust."""

import errno
import gzip
import hashlib
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlparse

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_EXTRACTED_BYTES = 30 * 2**30
"""The storage volume that SageMaker gives an instance without local disks, unless a model asks for more."""
MAX_MEMBERS = 10_000
_CHUNK = 1 << 20
_TOO_LARGE = "it unpacks to more than the instance's disk or memory holds"


_ATTEMPTS = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EFBIG, errno.EIO, errno.EROFS)
_S3 = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": _ATTEMPTS})


class ModelDataError(Exception):
    """A model archive cannot be had or is not one."""


class AbsentError(ModelDataError):
    """S3 has no such archive, or does not give it to this account."""


class StoreUnavailableError(ModelDataError):
    """S3 did not give the archive, though it may later."""


class DiskError(ModelDataError):
    """The disk does not take the archive, or what is in it."""


class DiskFullError(DiskError):
    """There is no room on the disk, until something is deleted from it."""


def s3_client() -> "S3Client":
    """A client that gives up within a minute on an S3 that is slow or fails."""
    return boto3.client("s3", config=_S3)


def extracted(state: Path, url: str) -> Path:
    """The folder of an archive (`s3://bucket/key`); downloads and extracts it when it is new or has changed.

    Raises ModelDataError.
    """
    parsed = urlparse(url)
    s3 = s3_client()
    key = parsed.path.lstrip("/")
    tag = current(s3, parsed.netloc, key)
    final = state / "models" / hashlib.sha256(f"{url} {tag}".encode()).hexdigest()[:24]
    if not final.is_dir():
        try:
            with tempfile.TemporaryDirectory(dir=state / "tmp", ignore_cleanup_errors=True) as partial:
                fetch(s3, parsed.netloc, key, Path(partial) / "model")
                if not final.is_dir():
                    (Path(partial) / "model").rename(final)
        except OSError as error:
            raise DiskError(f"could not store model data from {url}: {error}") from error
    return final


def current(s3: "S3Client", bucket: str, key: str) -> str:
    """The ETag of an archive as it is in S3 now; raises AbsentError and StoreUnavailableError."""
    try:
        return s3.head_object(Bucket=bucket, Key=key)["ETag"]
    except (ClientError, BotoCoreError) as error:
        raise _not_had(f"s3://{bucket}/{key}", error) from error


def _not_had(url: str, error: ClientError | BotoCoreError) -> ModelDataError:
    message = f"could not download model data from {url}: {error}"
    if isinstance(error, ClientError) and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) < 500:
        return AbsentError(message)
    return StoreUnavailableError(message)


def fetch(s3: "S3Client", bucket: str, key: str, folder: Path, max_bytes: int = MAX_EXTRACTED_BYTES) -> str:
    """Downloads an archive and extracts it into a new folder; returns the object's ETag.

    Raises ModelDataError, and then leaves no folder, for an object that is not there, a damaged archive,
    members outside of the folder, links and devices, and an archive that unpacks to more than `max_bytes`;
    StoreUnavailableError where S3 is at fault, DiskError where the disk is, and DiskFullError for want of room.
    """
    url = f"s3://{bucket}/{key}"
    archive = folder.with_name(f"{folder.name}.tar.gz")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tag = _download(s3, bucket, key, archive)
        with gzip.open(archive) as content:
            with tarfile.open(fileobj=content) as tar:
                left = _extract(tar, folder, max_bytes)
            # The checksum stands behind the last byte, which tarfile has no need to read.
            _drain(content, left)
    except (ClientError, BotoCoreError) as error:
        raise _not_had(url, error) from error
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (*_FULL, *_UNWRITABLE):
            kind = DiskFullError if error.errno in _FULL else DiskError
            raise kind(f"the disk does not take {url}: {error.strerror}") from error
        raise ModelDataError(f"{url} is not a readable model.tar.gz: {error}") from error
    finally:
        archive.unlink(missing_ok=True)
    return tag


def _download(s3: "S3Client", bucket: str, key: str, archive: Path) -> str:
    """Writes an object to a file and gives its ETag; begins again when the connection ends in the middle."""
    for attempt in range(_ATTEMPTS):
        answer = s3.get_object(Bucket=bucket, Key=key)
        try:
            with archive.open("wb") as file:
                for chunk in answer["Body"].iter_chunks(_CHUNK):
                    file.write(chunk)
            break
        except HTTPClientError:
            # botocore itself repeats only what fails before the body.
            if attempt == _ATTEMPTS - 1:
                raise
    return answer["ETag"]


def _extract(tar: tarfile.TarFile, folder: Path, max_bytes: int) -> int:
    """Extracts member by member, so that a bomb stops at the limit; returns how many bytes are left of it."""
    folder.mkdir()
    left = max_bytes
    for count, member in enumerate(tar):
        if count >= MAX_MEMBERS:
            raise tarfile.TarError(f"it has more than {MAX_MEMBERS} members")
        path = (folder / member.name).resolve()
        if Path(member.name).is_absolute() or not path.is_relative_to(folder.resolve()):
            raise tarfile.TarError(f"{member.name[:100]!r} lies outside of the archive's folder")
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
            continue
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            raise tarfile.TarError(f"{member.name[:100]!r} is neither a file nor a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            left = _copy(content, file, left)
    return left


def _drain(content: gzip.GzipFile, left: int) -> None:
    while chunk := content.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise tarfile.TarError(_TOO_LARGE)


def _copy(source: IO[bytes], target: IO[bytes], left: int) -> int:
    while chunk := source.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise tarfile.TarError(_TOO_LARGE)
        target.write(chunk)
    return left
