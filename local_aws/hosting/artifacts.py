"""Download model archives from the account's S3 and extract them as untrusted input."""

import contextlib
import errno
import gzip
import hashlib
import hmac
import itertools
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, HTTPClientError

from containers.serving.contract import ARCHIVE_HASH_VARIABLE
from containers.serving.manifest import sha256
from local_aws.hosting.errors import ReportedError
from local_aws.hosting.s3_urls import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_Result = TypeVar("_Result")
MAX_EXTRACTED_BYTES = 30 * 2**30
"""Storage volume that SageMaker gives an instance without local disks, unless a model asks for more."""
MAX_MEMBERS = 10_000
MAX_HEADER_BYTES = 1 << 16
"""Limit on the headers of one member; real names are paths of a few hundred bytes."""
MAX_PATH_PARTS = 64
MAX_PATH_CHARACTERS = 1024
"""Limit on a member's name. Some programs cannot delete paths that are nested deeper."""
_CHUNK = 1 << 20
_TOO_LARGE = "it unpacks to more than the instance's disk or memory holds"


RESTART_SECONDS = 20.0
"""Longest wait for an S3 that refuses connections: the supervisor restarts a killed emulator in a few seconds."""
_RETRY_SECONDS = 0.5
_ATTEMPTS = 3
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EFBIG, errno.EIO, errno.EROFS)
_S3 = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": _ATTEMPTS})


class ModelDataError(ReportedError):
    """A model archive is missing or invalid."""


class AbsentError(ModelDataError):
    """S3 has no such archive, or denies this account access to it."""


class StoreUnavailableError(ModelDataError):
    """S3 could not deliver the archive, but may later."""


class DiskError(ModelDataError):
    """The disk cannot store the archive or its contents."""


class DiskFullError(DiskError):
    """The disk is full until something is deleted."""


def s3_client() -> "S3Client":
    """Return a client that gives up within a minute on a slow or failing S3."""
    return boto3.client("s3", config=_S3)


def extracted(state: Path, url: str, expected_sha256: str = "") -> Path:
    """Return the folder of an archive in S3; download and extract it if it is new or has changed.

    expected_sha256: hash that its build reported, in hex; empty for an archive without one. Raises ModelDataError, and
    LocationError for an invalid URL.
    """
    return waiting_for_store(_extracted, state, url, expected_sha256)


def waiting_for_store(read: Callable[..., _Result], *arguments: Any) -> _Result:
    """Return what a function reads from S3, and try again for RESTART_SECONDS while S3 refuses connections; blocks."""
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            return read(*arguments)
        except StoreUnavailableError as error:
            if not isinstance(error.__cause__, EndpointConnectionError) or time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def _extracted(state: Path, url: str, expected_sha256: str) -> Path:
    location = S3Location.parse(url)
    s3 = s3_client()
    tag = current(s3, location.bucket, location.key)
    final = state / "models" / hashlib.sha256(f"{url} {tag} {expected_sha256}".encode()).hexdigest()[:24]
    if not final.is_dir():
        try:
            with tempfile.TemporaryDirectory(dir=state / "tmp", ignore_cleanup_errors=True) as partial:
                fetch(s3, location.bucket, location.key, Path(partial) / "model", expected_sha256=expected_sha256)
                if not final.is_dir():
                    (Path(partial) / "model").rename(final)
        except OSError as error:
            raise DiskError(f"could not store model data from {url}: {error}") from error
    return final


def current(s3: "S3Client", bucket: str, key: str) -> str:
    """Return the current ETag of an archive in S3; raise AbsentError or StoreUnavailableError."""
    try:
        return s3.head_object(Bucket=bucket, Key=key)["ETag"]
    except (ClientError, BotoCoreError) as error:
        raise _download_error(f"s3://{bucket}/{key}", error) from error


def _download_error(url: str, error: ClientError | BotoCoreError) -> ModelDataError:
    message = f"could not download model data from {url}: {error}"
    if isinstance(error, ClientError) and error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) < 500:
        return AbsentError(message)
    return StoreUnavailableError(message)


def fetch(
    s3: "S3Client",
    bucket: str,
    key: str,
    folder: Path,
    max_bytes: int = MAX_EXTRACTED_BYTES,
    expected_sha256: str = "",
) -> str:
    """Download an archive, check its hash, and extract it into a new folder; return the object's ETag.

    On any error, no folder is left. Raises:
    - ModelDataError for a missing object, another hash, a damaged archive, members outside of the folder, links,
      devices, and an archive that unpacks to more than `max_bytes`
    - StoreUnavailableError if S3 is at fault
    - DiskError if the disk is at fault, and DiskFullError if it is full
    """
    url = f"s3://{bucket}/{key}"
    archive, created = folder.with_name(f"{folder.name}.tar.gz"), False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        tag = _download(s3, bucket, key, archive)
        _check_hash(archive, url, expected_sha256)
        folder.mkdir()
        created = True
        with gzip.open(archive) as content:
            left = _extract(content, folder, max_bytes)
            # The checksum follows the last byte, which tarfile has no need to read.
            _drain(content, left)
    except (ClientError, BotoCoreError) as error:
        raise _download_error(url, error) from error
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        if created:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (*_FULL, *_UNWRITABLE):
            kind = DiskFullError if error.errno in _FULL else DiskError
            raise kind(f"the disk could not store {url}: {error.strerror}") from error
        raise ModelDataError(f"{url} is not a readable model.tar.gz: {error}") from error
    finally:
        archive.unlink(missing_ok=True)
    return tag


def _download(s3: "S3Client", bucket: str, key: str, archive: Path) -> str:
    """Write an object to a file and return its ETag; start over if the connection ends midway."""
    for attempt in range(_ATTEMPTS):
        response = s3.get_object(Bucket=bucket, Key=key)
        try:
            with archive.open("wb") as file:
                for chunk in response["Body"].iter_chunks(_CHUNK):
                    file.write(chunk)
            break
        except HTTPClientError:
            # botocore itself retries only failures that happen before the body.
            if attempt == _ATTEMPTS - 1:
                raise
    return response["ETag"]


def _check_hash(archive: Path, url: str, expected_sha256: str) -> None:
    if not expected_sha256:
        return
    actual = sha256(archive)
    if not hmac.compare_digest(actual, expected_sha256.strip().lower()):
        raise ModelDataError(
            f"{url} is not the archive that was built: sha256 {actual}, {ARCHIVE_HASH_VARIABLE} is "
            f"{expected_sha256[:64]}; deploy again, and find out who wrote to the bucket"
        )


class _Bounded:
    """Stream that tarfile reads from, with a limit on the size of one member's headers.

    tarfile reads the long name of a GNU or PAX header, and the map of a sparse file, entirely into memory.
    """

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = MAX_HEADER_BYTES

    @contextlib.contextmanager
    def data(self) -> Iterator[None]:
        """Lift the limit while a member's contents are read."""
        left, self._left = self._left, sys.maxsize
        try:
            yield
        finally:
            self._left = left

    def next_member(self) -> None:
        """Reset the count for the next member."""
        self._left = MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"a member's headers take more than {MAX_HEADER_BYTES} bytes")
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _extract(content: gzip.GzipFile, folder: Path, max_bytes: int) -> int:
    """Extract members one by one, to stop a decompression bomb at the limit; return the bytes left of it."""
    bounded = _Bounded(content)
    with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as tar:
        left = max_bytes
        for count in itertools.count():
            bounded.next_member()
            if (member := tar.next()) is None:
                return left
            # TarFile keeps every header that it reads, which would use unbounded memory.
            tar.members = []  # type: ignore[attr-defined]  # typeshed lacks the attribute
            if count >= MAX_MEMBERS:
                raise tarfile.TarError(f"it has more than {MAX_MEMBERS} members")
            with bounded.data():
                left = _extract_member(tar, member, folder, left)
    raise AssertionError("an archive ends")


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, left: int) -> int:
    if len(member.name) > MAX_PATH_CHARACTERS or member.name.count("/") >= MAX_PATH_PARTS:
        raise tarfile.TarError(
            f"{member.name[:100]!r} is too long: a name has at most {MAX_PATH_CHARACTERS} characters and "
            f"{MAX_PATH_PARTS} parts"
        )
    path = (folder / member.name).resolve()
    if Path(member.name).is_absolute() or not path.is_relative_to(folder.resolve()):
        raise tarfile.TarError(f"{member.name[:100]!r} lies outside of the archive's folder")
    if member.isdir():
        if member.size:
            raise tarfile.TarError(f"{member.name[:100]!r} is a folder of {member.size} bytes: folders have none")
        path.mkdir(parents=True, exist_ok=True)
        return left
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
