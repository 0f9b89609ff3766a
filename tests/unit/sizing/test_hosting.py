"""The decision tree: which needs lead where, and limits that are AWS's own."""

import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import pytest

from sizing import hosting
from sizing.hosting import HOSTINGS, RULES, Decision, Needs, decide, serverless_usd_per_hour
from sizing.hosting_picture import draw


def needs(**members: Any) -> Needs:
    given = {
        "payload_mib": 0.1,
        "seconds": 0.05,
        "memory_gib": 2.0,
        "p99_ms": 20_000.0,
        "in_flight": 1.0,
        "instances_usd": 0.4,
        "serverless_usd": 0.1,
        "idle_share": 0.9,
        **members,
    }
    return Needs(**given)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, "serverless"),
        ({"offline": True}, "batch"),
        ({"payload_mib": 2000}, "batch"),
        ({"seconds": 4000}, "batch"),
        ({"payload_mib": 6.5}, "asynchronous"),
        ({"seconds": 61}, "asynchronous"),
        ({"deadline_seconds": 900}, "asynchronous"),
        ({"deadline_seconds": 5}, "serverless"),
        ({"models": 51}, "multi-model"),
        ({"models": 51, "accelerator": True}, "real-time"),
        ({"idle_share": 0}, "real-time"),
        ({"accelerator": True}, "real-time"),
        ({"memory_gib": 6.5}, "real-time"),
        ({"payload_mib": 4.5}, "real-time"),
        ({"in_flight": 250}, "real-time"),
        ({"p99_ms": 500}, "real-time"),
        ({"serverless_usd": 0.5}, "real-time"),
    ],
)
def test_needs_lead_to_a_hosting(members: dict[str, Any], expected: str) -> None:
    assert decide(needs(**members)).hosting == expected


@pytest.mark.parametrize("hosting", HOSTINGS)
def test_every_hosting_can_be_reached(hosting: str) -> None:
    assert hosting in {leaf for rule in RULES for leaf in (rule.yes, rule.no)}


def test_every_rule_names_its_source_and_only_the_last_decides_either_way() -> None:
    assert all(rule.source for rule in RULES)
    assert [rule.yes is not None and rule.no is not None for rule in RULES] == [False] * 11 + [True]


def test_every_other_hosting_is_told_why_not() -> None:
    decision = decide(needs(memory_gib=8))
    assert decision.hosting == "real-time"
    assert decision.why_not("serverless") == "rule 8 decides first: 8 GiB"
    assert decision.why_not("multi-model").endswith("no: 1 model")
    assert "no: a caller waits" in decision.why_not("asynchronous")
    assert "no: requests arrive one by one" in decision.why_not("batch")


def shapes(service: str, version: str) -> dict[str, Any]:
    path = Path(botocore.__file__).parent / "data" / service / version / "service-2.json.gz"
    read: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))["shapes"]
    return read


def test_limits_are_those_of_the_api_models() -> None:
    runtime, control = shapes("sagemaker-runtime", "2017-05-13"), shapes("sagemaker", "2017-07-24")
    assert runtime["BodyBlob"]["max"] == hosting.REAL_TIME_MIB * 2**20
    assert runtime["InvocationTimeoutSecondsHeader"]["max"] == hosting.ASYNCHRONOUS_SECONDS
    assert control["ServerlessMemorySizeInMB"]["max"] == hosting.SERVERLESS_GIB * 1024
    assert control["ServerlessMaxConcurrency"]["max"] == hosting.SERVERLESS_CONCURRENCY


def test_serverless_bills_whole_gigabytes_for_the_time_of_requests() -> None:
    assert serverless_usd_per_hour(1.0, 1.0, 3.0) == pytest.approx(0.00006 * 3600)
    assert serverless_usd_per_hour(1.0, 1.0, 2.1) == serverless_usd_per_hour(1.0, 1.0, 3.0)
    assert serverless_usd_per_hour(1.0, 1.0, 0.2) == pytest.approx(0.00002 * 3600)


def test_rules_that_decide_nothing_are_an_error() -> None:
    with pytest.raises(ValueError, match="none of 1 rules decides"):
        decide(needs(), RULES[:1])


@pytest.mark.parametrize(("name", "magic"), [("tree.png", b"\x89PNG"), ("tree.svg", b"<?xml")])
def test_the_tree_is_drawn_with_the_path_taken(tmp_path: Path, name: str, magic: bytes) -> None:
    decision: Decision = decide(needs())
    draw(decision, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
