"""An archive that was swapped, or made to exhaust what extracts it, is refused in one line."""

import gzip
import hashlib
import io
import resource
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from local_aws.hosting.artifacts import MAX_HEADER_BYTES, ModelDataError, fetch

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Bucket:
    """An S3 client with one object."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def get_object(self, **names: str) -> dict[str, Any]:
        del names
        return {"Body": self, "ETag": '"tag"'}

    def iter_chunks(self, size: int) -> list[bytes]:
        return [self._body[begin : begin + size] for begin in range(0, len(self._body), size)]


def fetched(body: bytes, folder: Path, expected_sha256: str = "") -> None:
    fetch(cast("S3Client", Bucket(body)), "bucket", "model.tar.gz", folder / "model", expected_sha256=expected_sha256)


def archive(*members: bytes) -> bytes:
    return gzip.compress(b"".join(members) + bytes(1024), compresslevel=1)


def header(name: str, kind: bytes, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    return entry.tobuf(tarfile.USTAR_FORMAT)


def file(name: str, content: bytes) -> bytes:
    return header(name, tarfile.REGTYPE, len(content)) + content + bytes(-len(content) % 512)


HONEST = archive(file("model.bin", b"weights"))


def test_an_archive_with_the_hash_that_its_build_reported_is_extracted(tmp_path: Path) -> None:
    fetched(HONEST, tmp_path, hashlib.sha256(HONEST).hexdigest())
    assert (tmp_path / "model/model.bin").read_bytes() == b"weights"


def test_a_swapped_archive_is_refused_before_anything_in_it_is_read(tmp_path: Path) -> None:
    swapped = archive(file("model.bin", b"another"))
    with pytest.raises(ModelDataError, match="not the archive that was built: sha256") as refused:
        fetched(swapped, tmp_path, hashlib.sha256(HONEST).hexdigest())
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_long_name_of_hundreds_of_megabytes_takes_no_memory(tmp_path: Path, kind: bytes) -> None:
    size = 300 * 2**20
    bomb = archive(header("././@LongLink", kind, size), bytes(size), file("model.bin", b"x"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelDataError, match=f"more than {MAX_HEADER_BYTES} bytes"):
        fetched(bomb, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024, "kilobytes"


def test_a_sparse_files_map_is_bounded_too(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("model.bin")
    entry.type = tarfile.GNUTYPE_SPARSE
    first = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    first[482] = 1
    # A checksum counts its own eight bytes as spaces.
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    extension = (b"00000000001 00000000001 " * 21)[:504] + b"\1" + bytes(7)
    with pytest.raises(ModelDataError, match="headers take more than"):
        fetched(archive(bytes(first), extension * 8192), tmp_path)


def test_a_folder_with_bytes_is_refused_and_not_skipped_over(tmp_path: Path) -> None:
    with pytest.raises(ModelDataError, match="folders have none"):
        fetched(archive(header("code", tarfile.DIRTYPE, 2**30), bytes(2**20)), tmp_path)


def test_a_long_path_is_still_a_path(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("/".join(["folder" * 10] * 10) + "/model.bin")
        entry.size = 1
        tar.addfile(entry, io.BytesIO(b"x"))
    fetched(packed.getvalue(), tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["model.bin"]


@pytest.mark.parametrize("name", ["a/" * 1500 + "f", "a/" * 64 + "f", "x" * 1025])
def test_what_is_nested_too_deeply_to_be_deleted_is_refused(tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ModelDataError, match="is too long"):
        fetched(packed.getvalue(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_comments_in_headers_are_not_kept(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number in range(2000):
            entry = tarfile.TarInfo(f"d{number}")
            entry.type, entry.pax_headers = tarfile.DIRTYPE, {"comment": "a" * 60_000}
            tar.addfile(entry)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fetched(packed.getvalue(), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024, "kilobytes"
