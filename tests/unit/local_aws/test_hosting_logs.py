"""What replicas print goes to their log group, which is not created again once its endpoint is gone."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import boto3
import pytest

from local_aws.hosting.logs import LogShipper

GROUP = "/aws/sagemaker/Endpoints/e"


class NotFoundError(Exception):
    """ResourceNotFoundException."""


class ExistsError(Exception):
    """ResourceAlreadyExistsException."""


class Logs:
    """CloudWatch Logs: messages by group and stream."""

    class exceptions:  # noqa: N801 - botocore's name
        ResourceNotFoundException = NotFoundError
        ResourceAlreadyExistsException = ExistsError

    def __init__(self, *groups: str) -> None:
        self.groups: dict[str, defaultdict[str, list[str]]] = {group: defaultdict(list) for group in groups}

    def create_log_group(self, *, logGroupName: str) -> None:  # noqa: N803 - botocore's names
        if logGroupName in self.groups:
            raise ExistsError
        self.groups[logGroupName] = defaultdict(list)

    def create_log_stream(self, *, logGroupName: str, logStreamName: str) -> None:  # noqa: N803
        self._group(logGroupName)[logStreamName] += []

    def put_log_events(self, *, logGroupName: str, logStreamName: str, logEvents: list[Any]) -> None:  # noqa: N803
        self._group(logGroupName)[logStreamName] += [event["message"] for event in logEvents]

    def _group(self, name: str) -> defaultdict[str, list[str]]:
        if name not in self.groups:
            raise NotFoundError
        return self.groups[name]


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Logs:
    made = Logs()
    monkeypatch.setattr(boto3, "client", lambda _service: made)
    return made


def write(folder: Path, name: str, text: str) -> None:
    with (folder / name).open("a") as file:
        file.write(text)


def test_lines_go_to_the_stream_of_their_replica_once_they_are_complete(tmp_path: Path, logs: Logs) -> None:
    shipper = LogShipper(tmp_path, lambda *_: True)
    for text, sent in (("one\ntw", ["one"]), ("o\n\nthree\n", ["one", "two", "three"])):
        write(tmp_path, "e.v.1.log", text)
        shipper.ship()
        assert logs.groups == {GROUP: {"v/1": sent}}


def test_a_component_has_a_group_of_its_own(tmp_path: Path, logs: Logs) -> None:
    asked: list[tuple[str, bool]] = []

    def serves(name: str, component: bool) -> bool:
        asked.append((name, component))
        return True

    shipper = LogShipper(tmp_path, serves)
    write(tmp_path, "InferenceComponents.c.v.1.log", "one\n")
    shipper.ship()
    assert logs.groups == {"/aws/sagemaker/InferenceComponents/c": {"v/1": ["one"]}}
    assert asked == [("c", True)]


def test_a_group_is_not_created_for_an_endpoint_that_is_gone(tmp_path: Path, logs: Logs) -> None:
    shipper = LogShipper(tmp_path, lambda *_: False)
    write(tmp_path, "e.v.1.log", "one\n")
    write(tmp_path, "z.v.1.log", "two\n")
    logs.create_log_group(logGroupName="/aws/sagemaker/Endpoints/z")
    shipper.ship()
    assert logs.groups == {"/aws/sagemaker/Endpoints/z": {"v/1": ["two"]}}


def test_a_deleted_group_stops_no_other_and_is_created_again_only_for_an_endpoint_that_serves(
    tmp_path: Path, logs: Logs
) -> None:
    serving = True
    shipper = LogShipper(tmp_path, lambda *_: serving)
    for name in ("e.v.1.log", "z.v.1.log"):
        write(tmp_path, name, "one\n")
    shipper.ship()
    del logs.groups[GROUP]
    for expected in ([], ["three"]):
        for name in ("e.v.1.log", "z.v.1.log"):
            write(tmp_path, name, "three\n" if expected else "two\n")
        shipper.ship()
        assert logs.groups.get(GROUP, {"v/1": []}) == {"v/1": expected}
    assert logs.groups["/aws/sagemaker/Endpoints/z"] == {"v/1": ["one", "two", "three"]}
    serving = False
    del logs.groups[GROUP]
    for _ in range(2):
        write(tmp_path, "e.v.1.log", "four\n")
        shipper.ship()
    assert GROUP not in logs.groups
