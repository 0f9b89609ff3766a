"""Archives from S3 are extracted with nothing in them taken on trust."""

import errno
import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError

from local_aws.hosting import artifacts
from local_aws.hosting.artifacts import DiskError, DiskFullError, ModelDataError, StoreUnavailableError, fetch

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Bucket:
    """An S3 client with one object."""

    def __init__(self, body: bytes | None, *, status: int = 404, cuts: int = 0) -> None:
        self._body, self._status, self._cuts = body, status, cuts

    def get_object(self, **names: str) -> dict[str, Any]:
        if self._status >= 500:
            answer: Any = {
                "Error": {"Code": "InternalError", "Message": "try again"},
                "ResponseMetadata": {"HTTPStatusCode": self._status},
            }
            raise ClientError(answer, "GetObject")
        if self._body is None:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": f"no {names['Key']}"}}, "GetObject")
        return {"Body": self, "ETag": '"tag"'}

    def iter_chunks(self, size: int) -> list[bytes]:
        assert self._body is not None
        if self._cuts:
            self._cuts -= 1
            raise ResponseStreamingError(error="the connection broke")
        return [self._body[begin : begin + size] for begin in range(0, len(self._body), size)]


def packed(*entries: tuple[tarfile.TarInfo, bytes], mode: Any = "w:gz") -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode=mode) as tar:
        for entry, body in entries:
            entry.size = len(body)
            tar.addfile(entry, io.BytesIO(body))
    return archive.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def fetched(folder: Path, body: bytes | None, max_bytes: int = 1 << 20) -> Path:
    return fetched_from(folder, Bucket(body), max_bytes)


def fetched_from(folder: Path, bucket: Bucket, max_bytes: int = 1 << 20) -> Path:
    fetch(cast("S3Client", bucket), "bucket", "model.tar.gz", folder / "model", max_bytes)
    return folder / "model"


def test_files_and_folders_are_extracted_and_the_archive_is_not_kept(tmp_path: Path) -> None:
    body = packed((entry("code", tarfile.DIRTYPE), b""), (entry("code/a.txt"), b"a"), (entry("./b.txt"), b"b"))
    folder = fetched(tmp_path, body)
    assert {str(p.relative_to(folder)) for p in folder.rglob("*")} == {"code", "code/a.txt", "b.txt"}
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (None, "could not download model data from s3://bucket/model.tar.gz"),
        (b"", "not a readable model.tar.gz"),
        (b"text", "not a readable model.tar.gz"),
        (packed((entry("a"), b"a"), mode="w"), "not a readable model.tar.gz"),
        (packed((entry("a"), b"a" * 1000))[:-9], "not a readable model.tar.gz"),
        (packed((entry("../a"), b"a")), "'../a' lies outside"),
        (packed((entry("a/../../b"), b"a")), "lies outside"),
        (packed((entry("/etc/a"), b"a")), "'/etc/a' lies outside"),
        (packed((entry("a", tarfile.SYMTYPE, "/etc/passwd"), b"")), "neither a file nor a folder"),
        (packed((entry("a", tarfile.LNKTYPE, "/etc/passwd"), b"")), "neither a file nor a folder"),
        (packed((entry("a", tarfile.CHRTYPE), b"")), "neither a file nor a folder"),
        (packed((entry("a", tarfile.FIFOTYPE), b"")), "neither a file nor a folder"),
        (packed((entry("a"), bytes((1 << 20) + 1))), "unpacks to more than"),
        (packed((entry("a"), bytes(600_000)), (entry("b"), bytes(600_000))), "unpacks to more than"),
    ],
    ids=[
        "missing", "empty", "text", "not compressed", "cut off", "parent", "hidden parent", "absolute", "symlink",
        "hard link", "device", "pipe", "bomb", "bomb of two",
    ],
)  # fmt: skip
def test_what_is_no_model_archive_is_refused_and_leaves_nothing(tmp_path: Path, body: bytes | None, part: str) -> None:
    with pytest.raises(ModelDataError, match=part.replace(".", r"\.")):
        fetched(tmp_path, body)
    assert list(tmp_path.iterdir()) == []


def test_bytes_behind_the_archives_end_count_too(tmp_path: Path) -> None:
    with pytest.raises(ModelDataError, match="unpacks to more than"):
        fetched(tmp_path, gzip.compress(gzip.decompress(packed((entry("a"), b"a"))) + bytes(2 << 20)))


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_MEMBERS", 3)
    with pytest.raises(ModelDataError, match="more than 3 members"):
        fetched(tmp_path, packed(*((entry(str(i)), b"") for i in range(4))))


def test_a_download_that_breaks_off_is_begun_again_and_given_up_after_three(tmp_path: Path) -> None:
    body = packed((entry("a.txt"), b"whole"))
    assert (fetched_from(tmp_path, Bucket(body, cuts=2)) / "a.txt").read_bytes() == b"whole"
    with pytest.raises(StoreUnavailableError, match="could not download"):
        fetched_from(tmp_path / "again", Bucket(body, cuts=3))
    assert list((tmp_path / "again").iterdir()) == []


def test_an_s3_that_fails_is_told_from_an_archive_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="InternalError"):
        fetched_from(tmp_path, Bucket(b"", status=500))
    with pytest.raises(ModelDataError, match="NoSuchKey") as raised:
        fetched_from(tmp_path, Bucket(None))
    assert not isinstance(raised.value, StoreUnavailableError)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EFBIG, DiskError)]
)
def test_a_disk_that_does_not_take_an_archive_is_told_from_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[ModelDataError]
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(artifacts, "_copy", full)
    with pytest.raises(kind, match=r"the disk could not store s3://bucket/model\.tar\.gz") as raised:
        fetched_from(tmp_path, Bucket(packed((entry("a.txt"), b"a"))))
    assert type(raised.value) is kind
    assert list(tmp_path.iterdir()) == []
