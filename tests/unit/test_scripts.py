"""scripts/test: lint beside the tests, and neither hides what the other found."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.local_account import wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """scripts/test where nothing is to be installed, and lint and pytest are a line of shell each."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts/test")
    (tmp_path / "scripts/environment.sh").write_text(
        f"set -euo pipefail; cd {tmp_path}; environment() {{ :; }}; node_packages() {{ :; }}"
    )
    return tmp_path


def begin(project: Path, lint: str, pytest_: str, *arguments: str) -> "subprocess.Popen[str]":
    for path, line in ((project / "scripts/lint", lint), (project / "bin/pytest", pytest_)):
        path.write_text(f"#!/usr/bin/env bash\n{line}\n")
        path.chmod(0o755)
    return subprocess.Popen(
        [str(project / "scripts/test"), *arguments],
        env={"PATH": f"{project}/bin:{os.environ['PATH']}"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(("linted", "tested", "code"), [(0, 0, 0), (1, 0, 1), (0, 5, 5), (1, 5, 5)])
def test_the_exit_code_is_red_when_either_is_red(project: Path, linted: int, tested: int, code: int) -> None:
    with begin(project, f"echo lint; exit {linted}", f"echo tests; exit {tested}") as process:
        told, _ = process.communicate(timeout=60)
    assert (told.splitlines(), process.returncode) == (["tests", "lint"], code)


def test_what_lint_says_comes_whole_after_what_the_tests_say(project: Path) -> None:
    lint = "echo one; touch begun; until [ -e tested ]; do sleep 0.01; done; echo two"
    tests = "until [ -e begun ]; do sleep 0.01; done; echo three; touch tested"
    with begin(project, lint, tests) as process:
        told, _ = process.communicate(timeout=60)
    assert told.splitlines() == ["three", "one", "two"]


def test_arguments_go_to_pytest_after_its_own_so_that_they_win(project: Path) -> None:
    with begin(project, ":", 'echo "$@"', "-n", "0", "-k", "a name") as process:
        told, _ = process.communicate(timeout=60)
    assert told.strip().endswith("-n 0 -k a name")


def test_an_interrupted_run_leaves_no_lint(project: Path) -> None:
    lint = "sleep 300 & echo $! >begun; wait"
    with begin(project, lint, "sleep 300") as process:
        begun = project / "begun"
        wait_until(lambda: begun.exists() and begun.read_text().strip() != "", 30, "lint's beginning")
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)
    wait_until(lambda: not psutil.pid_exists(int(begun.read_text())), 30, "lint's end")
    assert process.returncode != 0


def new_environment(folder: Path) -> "subprocess.CompletedProcess[str]":
    script = f"set -euo pipefail; source model_build/package_index.sh; new_environment python3 '{folder}'"
    kept = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=kept, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_build_makes_an_interrupted_environment_again_and_leaves_anybodys_folder_alone(tmp_path: Path) -> None:
    assert new_environment(tmp_path / "venv").returncode == 0
    (tmp_path / "venv/half").write_text("installed")
    assert new_environment(tmp_path / "venv").returncode == 0
    assert not (tmp_path / "venv/half").exists()
    (tmp_path / "work").mkdir()
    (tmp_path / "work/file").write_text("of somebody")
    (tmp_path / "link").symlink_to(tmp_path / "venv")
    for refused in ("work", "link"):
        done = new_environment(tmp_path / refused)
        assert (done.returncode, done.stdout) == (1, "")
        assert "was not created by a build" in done.stderr
    assert (tmp_path / "work/file").exists()
    assert (tmp_path / "venv/bin/python").exists()


def test_an_environment_that_the_scripts_did_not_make_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/environment.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/work").write_text("of somebody")
    done = subprocess.run(
        ["bash", "-c", "source scripts/environment.sh; environment local"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert ".venv was not made by these scripts" in done.stderr
    assert (tmp_path / ".venv/work").exists()
