"""Model archives from the account's S3, extracted with nothing in them taken on trust."""

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
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_EXTRACTED_BYTES = 30 * 2**30
"""The storage volume that SageMaker gives an instance without local disks, unless a model asks for more."""
MAX_MEMBERS = 10_000
_CHUNK = 1 << 20
_TOO_LARGE = "it unpacks to more than the instance's disk or memory holds"


class ModelDataError(Exception):
    """A model archive cannot be had or is not one."""


def extracted(state: Path, url: str) -> Path:
    """The folder of an archive (`s3://bucket/key`); downloads and extracts it when it is new or has changed.

    Raises ModelDataError.
    """
    parsed = urlparse(url)
    s3 = boto3.client("s3")
    key = parsed.path.lstrip("/")
    try:
        tag = s3.head_object(Bucket=parsed.netloc, Key=key)["ETag"]
    except (ClientError, BotoCoreError) as error:
        raise ModelDataError(f"could not download model data from {url}: {error}") from error
    final = state / "models" / hashlib.sha256(f"{url} {tag}".encode()).hexdigest()[:24]
    if not final.is_dir():
        partial = Path(tempfile.mkdtemp(dir=state / "tmp"))
        try:
            fetch(s3, parsed.netloc, key, partial / "model")
            if not final.is_dir():
                (partial / "model").rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def fetch(s3: "S3Client", bucket: str, key: str, folder: Path, max_bytes: int = MAX_EXTRACTED_BYTES) -> str:
    """Downloads an archive and extracts it into a new folder; returns the object's ETag.

    Raises ModelDataError, and then leaves no folder, for an object that is not there, a damaged archive,
    members outside of the folder, links and devices, and an archive that unpacks to more than `max_bytes`.
    """
    url = f"s3://{bucket}/{key}"
    archive = folder.with_name(f"{folder.name}.tar.gz")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        answer = s3.get_object(Bucket=bucket, Key=key)
        with archive.open("wb") as file:
            for chunk in answer["Body"].iter_chunks(_CHUNK):
                file.write(chunk)
        with gzip.open(archive) as content:
            with tarfile.open(fileobj=content) as tar:
                left = _extract(tar, folder, max_bytes)
            # The checksum stands behind the last byte, which tarfile has no need to read.
            _drain(content, left)
    except (ClientError, BotoCoreError) as error:
        raise ModelDataError(f"could not download model data from {url}: {error}") from error
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ModelDataError(f"{url} is not a readable model.tar.gz: {error}") from error
    finally:
        archive.unlink(missing_ok=True)
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
