"""What runs on every push and pull request, with which rights, and from which code."""

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infrastructure.conftest import ROOT, Assembly

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    return read


def steps(workflow: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in workflow["jobs"].items():
        for step in job["steps"]:
            yield name, step


def test_every_script_that_it_runs_is_there_and_can_be_run(workflow: dict[str, Any]) -> None:
    called = {
        script
        for _, step in steps(workflow)
        for script in re.findall(r"(?<![\w.-])(?:after/)?(scripts/[\w-]+)", step.get("run", ""))
    }
    assert {"scripts/test", "scripts/synth", "scripts/diff", "scripts/docs"} <= called
    for script in called:
        assert (ROOT / script).stat().st_mode & stat.S_IXUSR, script


def test_every_command_is_shell_that_parses(workflow: dict[str, Any]) -> None:
    for name, step in steps(workflow):
        done = subprocess.run(
            ["bash", "-n"], input=step.get("run", ""), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, (name, done.stderr)


def test_every_action_is_pinned_by_its_commit_and_names_its_version() -> None:
    for path in WORKFLOWS:
        used = re.findall(r"uses: *(.+)", path.read_text())
        assert used
        for each in used:
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_it_may_read_and_only_the_comment_may_write(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    given = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert given == {"comment": {"pull-requests": "write"}}


def test_the_job_that_may_write_runs_no_code_of_the_pull_request(workflow: dict[str, Any]) -> None:
    job = workflow["jobs"]["comment"]
    assert not any("checkout" in step.get("uses", "") for step in job["steps"])
    assert not any("scripts/" in step.get("run", "") for step in job["steps"])
    assert "head.repo.full_name == github.repository" in job["if"]


def test_what_a_pull_request_says_of_itself_is_in_no_command(workflow: dict[str, Any]) -> None:
    assert not any("${{" in step.get("run", "") for _, step in steps(workflow))
    # pull_request_target would run a fork's code with the repository's token.
    triggers = re.search(r"^on:\n((?:  .+\n)+)", WORKFLOWS[0].read_text(), re.MULTILINE)
    assert triggers is not None and set(yaml.safe_load(triggers[1])) == {"push", "pull_request"}


def test_nothing_has_credentials_or_keeps_the_token(workflow: dict[str, Any]) -> None:
    assert "secrets." not in yaml.safe_dump(workflow)
    checkouts = [step for _, step in steps(workflow) if "checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_every_job_ends_by_itself_and_a_newer_push_ends_an_older_run(workflow: dict[str, Any]) -> None:
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert "cancel-in-progress" in workflow["concurrency"]


def diff(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(ROOT / "scripts/diff"), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_difference_of_two_synths_is_told_without_network_or_credentials(
    synthesize: Callable[..., Assembly], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for side in ("before", "after"):
        shutil.copytree(synthesize("prod").folder, tmp_path / side / "prod", symlinks=True)
    path = tmp_path / "after/prod/Prod-Tabular.template.json"
    template = json.loads(path.read_text())
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget":
            resource["Properties"]["MaxCapacity"] = 8
    path.write_text(json.dumps(template))
    (tmp_path / "before/prod/Prod-Old.template.json").write_text('{"Resources": {}}')
    done = diff(str(tmp_path / "before"), str(tmp_path / "after"), "prod")
    assert done.returncode == 0, done.stderr
    assert "| prod-tabular-churn AllTraffic | 2 to 5 x ml.c5.xlarge | 2 to 8 x ml.c5.xlarge | +0 |" in done.stdout
    assert "`Prod-Old` is no longer there." in done.stdout
    assert done.stdout.count("<details>") == 1 and "[-] 5" in done.stdout and "[+] 8" in done.stdout


def test_a_folder_that_was_not_synthesized_is_an_error(tmp_path: Path) -> None:
    done = diff(str(tmp_path), str(tmp_path), "prod")
    assert done.returncode == 1
    assert "has no templates; copy cdk.out there after scripts/synth prod" in done.stderr
