"""Text files as editors and spreadsheets save them are read alike, or refused with the encoding and the line."""

from pathlib import Path

import pytest

from load_tests.shapes import read_trace as read_shape
from sizing.profiles import RECORDED, read_profiles
from sizing.simulation.traffic import TrafficError, read_trace
from sizing.text_files import TextFileError, read_text
from stacks.settings.deployment import DEPLOYMENTS, Deployment

TRACE = "seconds,rate\n0,1\n10,5\n"


@pytest.mark.parametrize("content", [TRACE, "\ufeff" + TRACE, TRACE.replace("\n", "\r\n"), TRACE.replace("\n", "\r")])
def test_a_byte_order_mark_and_other_line_ends_are_read_as_the_plain_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content.encode())
    assert read_text(path) == TRACE
    assert read_trace(path).seconds == 11
    assert read_shape(read_text(path)).points == ((0, 1), (10, 5))


def test_every_file_that_a_person_writes_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    profiles, deployment = tmp_path / "profiles.json", tmp_path / "mine.yaml"
    profiles.write_bytes(b"\xef\xbb\xbf" + RECORDED.read_bytes())
    deployment.write_bytes(b"\xef\xbb\xbf" + (DEPLOYMENTS / "dev.yaml").read_bytes())
    assert read_profiles(profiles) == read_profiles()
    assert Deployment.load(deployment) == Deployment.named("dev")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TRACE.encode("utf-16"), "trace.csv is in UTF-16: save it in UTF-8"),
        ("seconds,rate\n0,1\n5,2 €\n".encode("cp1252"), "trace.csv line 3: byte 0x80 is not UTF-8"),
        (b"seconds,rate\n0,\x001\n", "trace.csv line 2: it has a NUL character"),
    ],
)
def test_another_encoding_is_refused_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(TextFileError, match=message):
        read_text(path)
    with pytest.raises(TrafficError, match=message):
        read_trace(path)
