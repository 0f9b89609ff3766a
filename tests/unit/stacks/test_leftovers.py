"""What of a deployment is found in an account, and why it may be there."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commands import leftovers as command
from commands.main import app
from stacks.leftovers import LISTINGS, Account, Listing, ListingError, belongs, leftovers
from stacks.naming import key_description
from stacks.settings.deployment import Deployment


class Kept(Account):
    """An account that holds just this."""

    def __init__(
        self,
        names: Mapping[str, list[str]] | None = None,
        keys: list[dict[str, Any]] | None = None,
        tagged: list[str] | None = None,
    ) -> None:
        self._names, self._keys, self._tagged = names or {}, keys or [], tagged or []

    def names(self, listing: Listing) -> list[str]:
        return self._names.get(listing.kind, [])

    def encryption_keys(self) -> list[dict[str, Any]]:
        return self._keys

    def tagged(self, _environment: str) -> list[str]:
        return self._tagged


DEV, PROD = Deployment.named("dev"), Deployment.named("prod")
KEY = {"KeyId": "1", "Description": key_description("dev"), "KeyState": "PendingDeletion"}


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("Dev-Tabular", True),
        ("/aws/sagemaker/Endpoints/dev-tabular-large", True),
        ("endpoint/dev-tabular-large/variant/AllTraffic", True),
        ("arn:aws:sns:us-east-1:000000000000:Dev-Foundation-Alerts", True),
        ("dev-eu-foundation-artifacts", False),
        ("prod-churn", False),
        ("develop-churn", False),
    ],
)
def test_a_name_belongs_to_the_environment_that_a_part_of_it_begins_with(name: str, whose: bool) -> None:
    assert belongs(name, "dev", ["dev", "dev-eu", "prod"]) is whose


def test_nothing_is_left_of_a_deployment_that_is_gone_but_its_key_and_the_bootstrap() -> None:
    key = {**KEY, "DeletionDate": datetime.datetime(2026, 11, 28)}
    account = Kept({"stack": ["CDKToolkit"], "bucket": ["cdk-hnb659fds-assets-1"]}, [key])
    found = list(leftovers(account, DEV))
    assert [each.kind for each in found] == ["stack", "bucket", "key"]
    assert all(each.reason for each in found)
    assert "AWS deletes it on 2026-11-28" in str(found[-1].reason)


def test_what_should_be_gone_has_no_reason() -> None:
    account = Kept({"endpoint": ["dev-tabular-large"], "alarm": ["prod-a"], "bucket": ["dev-foundation-artifacts-x"]})
    assert [(each.name, each.reason) for each in leftovers(account, DEV)] == [
        ("dev-tabular-large", None),
        ("dev-foundation-artifacts-x", None),
    ]


def test_retained_data_may_be_there_and_nothing_else_of_that_deployment() -> None:
    key = {"KeyId": "1", "Description": key_description("prod"), "KeyState": "Enabled"}
    account = Kept({"bucket": ["prod-foundation-artifacts-x", "prod-other"], "role": ["Prod-Tabular-Role"]}, [key])
    reasons = {each.name: each.reason for each in leftovers(account, PROD)}
    assert reasons["prod-other"] is None and reasons["Prod-Tabular-Role"] is None
    assert str(reasons["prod-foundation-artifacts-x"]).startswith("retain_data keeps")
    assert str(reasons["1"]).startswith("retain_data keeps")


def test_a_key_that_nobody_deleted_should_not_be_there() -> None:
    assert [each.reason for each in leftovers(Kept(keys=[{**KEY, "KeyState": "Enabled"}]), DEV)] == [None]


def test_what_only_its_tag_tells_is_found_once() -> None:
    topic, project = "arn:aws:sns:r:1:Dev-Foundation-Alerts", "arn:aws:codebuild:r:1:project/EncoderProject"
    account = Kept({"topic": [topic]}, [KEY], [project, topic, "arn:aws:kms:r:1:key/1"])
    assert [each.name for each in leftovers(account, DEV) if each.kind == "tagged"] == [project]


def test_every_listing_is_an_operation_that_pages() -> None:
    account = Account()
    for listing in LISTINGS:
        assert account.client(listing.service).can_paginate(listing.operation), listing.kind


@pytest.fixture(autouse=True)
def region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, account: Account) -> Any:
    monkeypatch.setattr(command, "Account", lambda: account)
    return CliRunner().invoke(app, ["leftovers", "--deployment", "dev", "--state", str(tmp_path)])


def test_the_command_ends_with_zero_when_all_that_is_there_may_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run(monkeypatch, tmp_path, Kept(keys=[KEY])).exit_code == 0


def test_the_command_ends_with_one_when_something_remained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = run(monkeypatch, tmp_path, Kept({"endpoint": ["dev-churn"]}, [KEY]))
    assert done.exit_code == 1
    assert "1 of 2 are unexpected" in done.stderr


def test_a_service_that_does_not_answer_is_not_taken_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Silent(Kept):
        def names(self, listing: Listing) -> list[str]:
            raise ListingError(f"{listing.kind}s cannot be listed: no answer")

    done = run(monkeypatch, tmp_path, Silent())
    assert done.exit_code == 2
    assert "stacks cannot be listed: no answer; nothing is known of the rest" in done.stderr
