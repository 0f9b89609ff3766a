"""checkov over every synthesized template: what it finds is fixed, or in checkov/accepted.yaml with a reason."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_aws.environments import environment
from tests.infrastructure.conftest import ROOT, Assembly

HERE = Path(__file__).parent / "checkov"
Synthesize = Callable[..., Assembly]


@dataclass(frozen=True)
class Failure:
    check: str
    resource: str
    template: str

    def __str__(self) -> str:
        return f"{self.template}: {self.resource}: {self.check}"


@pytest.fixture(scope="module")
def checkov() -> Path:
    """The program, in an environment that is installed once."""
    return environment(ROOT / ".cache", "checkov", HERE / "requirements.txt", compiled=False) / "bin" / "checkov"


def run(checkov: Path, templates: list[Path]) -> tuple[dict[str, int], list[Failure]]:
    """Figures and failures; no rules are fetched and nothing is sent anywhere."""
    done = subprocess.run(
        [
            str(checkov), "--framework", "cloudformation", "--skip-download", "--compact", "--quiet",
            "--output", "json", "--file", *map(str, templates),
        ],
        env={**os.environ, "BC_SKIP_MAPPING": "TRUE", "LOG_LEVEL": "ERROR", "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    if "results" not in found:
        return {"passed": found["passed"], "resource_count": found["resource_count"], "parsing_errors": 0}, []
    failures = [
        Failure(each["check_id"], each["resource"], Path(each["file_path"]).name)
        for each in found["results"]["failed_checks"]
    ]
    return found["summary"], failures


def accepted() -> list[dict[str, str]]:
    entries: list[dict[str, str]] = yaml.safe_load((HERE / "accepted.yaml").read_text())
    return entries


def accepts(entry: dict[str, str], failure: Failure) -> bool:
    return entry["check"] == failure.check and re.fullmatch(entry["resources"], failure.resource) is not None


def test_checkov_finds_nothing_that_is_not_accepted_and_nothing_accepted_is_left_over(
    checkov: Path, synthesize: Synthesize, figure: Callable[[str], None]
) -> None:
    templates = [
        path
        for deployment in (
            "dev", "prod", "published", str(Path(__file__).with_name("private_network.yaml")), "pipeline=main"
        )
        for path in sorted(synthesize(deployment).folder.glob("*.template.json"))
    ]  # fmt: skip
    summary, failures = run(checkov, templates)
    entries = accepted()
    assert summary["parsing_errors"] == 0 and summary["passed"] > 500
    assert [str(each) for each in failures if not any(accepts(entry, each) for entry in entries)] == []
    assert [entry for entry in entries if not any(accepts(entry, each) for each in failures)] == []
    assert all(len(entry["reason"]) > 40 for entry in entries)
    figure(
        f"checkov: {summary['resource_count']} resources, {summary['passed']} checks passed, {len(failures)} accepted "
        f"for {len(entries)} reasons"
    )


def test_checkov_sees_a_bucket_that_anybody_can_read(checkov: Path, tmp_path: Path) -> None:
    template = tmp_path / "public.template.json"
    public = {"Type": "AWS::S3::Bucket", "Properties": {"AccessControl": "PublicRead"}}
    template.write_text(json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Public": public}}))
    _, failures = run(checkov, [template])
    assert "CKV_AWS_20" in {each.check for each in failures}
