"""The workflow's comment: it edits its own only, and takes what a pull request's code wrote as text."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infrastructure.conftest import ROOT

pytestmark = pytest.mark.skipif(
    any(shutil.which(each) is None for each in ("jq", "iconv")), reason="the runner's jq and iconv are not installed"
)
MARKER = "<!-- template-difference -->"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
FENCE = "~" * 8
# Lists the comments through the jq program that it gets, and records anything else.
GH = """#!/usr/bin/env python3
import json, os, subprocess, sys
arguments = sys.argv[1:]
if "--jq" in arguments:
    query = arguments[arguments.index("--jq") + 1]
    sys.exit(subprocess.run(["jq", "--raw-output", query, "comments.json"]).returncode)
body = json.load(open(arguments[arguments.index("--input") + 1]))["body"]
json.dump({"method": arguments[2], "path": arguments[3], "body": body}, open("sent.json", "w"))
"""


def steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    found: list[dict[str, Any]] = workflow["jobs"]["comment"]["steps"]
    return found


@dataclass(frozen=True)
class Runner:
    """A folder in which the job's last step runs against a fake of GitHub's program."""

    folder: Path

    def run(self, comments: list[dict[str, Any]]) -> "subprocess.CompletedProcess[str]":
        (self.folder / "comments.json").write_text(json.dumps(comments))
        step = steps()[-1]
        literal = {name: value for name, value in step["env"].items() if "${{" not in value}
        given = {
            "GH_TOKEN": "t",
            "GH_REPO": "owner/repository",
            "NUMBER": "7",
            "PATH": f"{self.folder}:{os.environ['PATH']}",
        }
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder, env={**literal, **given}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def sent(self, comments: list[dict[str, Any]] | None = None) -> dict[str, str]:
        done = self.run(comments or [])
        assert done.returncode == 0, done.stderr
        sent: dict[str, str] = json.loads((self.folder / "sent.json").read_text())
        return sent

    def block(self) -> str:
        """The text within the comment's code block, which must be all that follows its first lines."""
        head, text, tail = self.sent()["body"].split(FENCE)
        assert head.startswith(f"{MARKER}\n") and text.startswith(" text\n") and text.endswith("\n")
        assert tail in ("\n", "\n\nThe rest is in the summary of the run.\n")
        return text.removeprefix(" text\n")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact/difference.md").write_text("### dev\n")
    return Runner(tmp_path)


@pytest.mark.parametrize(
    "comment",
    [
        {"id": 1, "user": {"login": "someone", "type": "User"}, "body": f"{MARKER}\nmine"},
        {"id": 1, "user": {"login": "other[bot]", "type": "Bot"}, "body": f"{MARKER}\nmine"},
        {"id": 1, "user": {"login": "github-actions[bot]", "type": "User"}, "body": f"{MARKER}\nmine"},
        {"id": 1, "user": BOT, "body": f"of another workflow, which quotes {MARKER}"},
    ],
    ids=["a user's", "another bot's", "a user who calls himself so", "of another workflow"],
)
def test_a_comment_of_somebody_else_is_never_edited(runner: Runner, comment: dict[str, Any]) -> None:
    sent = runner.sent([comment])
    assert (sent["method"], sent["path"]) == ("POST", "repos/owner/repository/issues/7/comments")


def test_its_own_comment_is_edited_and_the_first_if_there_are_several(runner: Runner) -> None:
    foreign = {"id": 1, "user": {"login": "someone", "type": "User"}, "body": MARKER}
    sent = runner.sent([foreign, *({"id": number, "user": BOT, "body": f"{MARKER}\nold"} for number in (22, 33))])
    assert (sent["method"], sent["path"]) == ("PATCH", "repos/owner/repository/issues/comments/22")


def test_what_scripts_diff_writes_stays_readable(runner: Runner) -> None:
    text = "### prod\n\n| a | b |\n\n<details><summary>Prod-X</summary>\n\n```diff\n[~] └─ X\n[+] 8\n```\n</details>\n"
    (runner.folder / "artifact/difference.md").write_text(text)
    assert runner.block() == "### prod\n\n| a | b |\n\nProd-X\n\n[~] └─ X\n[+] 8\n"


@pytest.mark.parametrize(
    "hostile",
    [
        f"{FENCE}\n@everyone ![x](https://evil.example/x.png)",
        f"   {FENCE}{FENCE}\n@owner/team",
        f"{FENCE}\r@owner",
        "~\0~~~~~~~~\n@owner",
        "~~\x1b~~~~~~~~\n<img src=x>",
        "~~\x80~~~~~~~~~\n<img src=x>",
        "```\n@owner <script>alert(1)</script>\n```",
    ],
)
def test_no_text_ends_the_code_block(runner: Runner, hostile: str) -> None:
    (runner.folder / "artifact/difference.md").write_bytes(hostile.encode("latin-1"))
    text = runner.block()
    assert not any(character < " " and character != "\n" for character in text)


@pytest.mark.parametrize("text", ["$(touch pwned)\n`touch pwned`", "'; touch pwned; '", "%s %n %d \\n", "@/etc/passwd"])
def test_no_text_is_a_command_a_format_or_a_files_name(runner: Runner, text: str) -> None:
    (runner.folder / "artifact/difference.md").write_text(text)
    assert runner.block() == f"{text}\n"
    assert not (runner.folder / "pwned").exists()


def test_a_long_text_is_cut_below_githubs_limit_and_says_so(runner: Runner) -> None:
    (runner.folder / "artifact/difference.md").write_text("a" + "└" * 40_000)
    body = runner.sent()["body"]
    assert body.endswith("The rest is in the summary of the run.\n")
    assert len(body) < 65_536 and "�" not in body


def test_a_text_too_large_to_read_fails_the_job(runner: Runner) -> None:
    with (runner.folder / "artifact/difference.md").open("wb") as file:
        file.truncate(10_000_001)
    done = runner.run([])
    assert done.returncode == 1 and "difference.md has 10000001 bytes" in done.stdout
    assert not (runner.folder / "sent.json").exists()


@pytest.mark.parametrize("kind", ["link", "folder", "missing"])
def test_what_is_no_regular_file_fails_the_job(runner: Runner, kind: str) -> None:
    file = runner.folder / "artifact/difference.md"
    file.unlink()
    if kind == "link":
        file.symlink_to("/proc/self/environ")
    elif kind == "folder":
        file.mkdir()
    done = runner.run([])
    assert done.returncode == 1 and "is not a regular file" in done.stdout
    assert not (runner.folder / "sent.json").exists()


def test_the_artifact_is_unpacked_into_a_folder_of_its_own() -> None:
    (download,) = [step for step in steps() if "download-artifact" in step.get("uses", "")]
    assert download["with"] == {"name": "difference", "path": "artifact"}
