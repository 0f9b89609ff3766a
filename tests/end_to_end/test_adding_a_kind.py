"""The tiny kind of docs/adding-a-kind.md, built from that page in a copy of the project, works from synth to report."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_aws.account import CACHE_VARIABLE, ROOT, STATE_VARIABLE, default_cache

PAGE = ROOT / "docs/adding-a-kind.md"
_BLOCK = re.compile(r"^```\w+ (title|add-to)=\"([^\"]+)\"\n(.*?)^```$", re.DOTALL | re.MULTILINE)
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]


class Project:
    """A copy of the project with a local account of its own."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder, self.state = folder, state
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "INFERENCE_"))},
            "PYTHONPATH": str(folder),
            STATE_VARIABLE: str(state),
            CACHE_VARIABLE: str(default_cache()),
            "PATH": f"{Path(sys.executable).parent}:{folder}/node_modules/.bin:{os.environ['PATH']}",
        }

    def run(self, *command: str) -> str:
        """Run a command in the copy and return its standard output; its failure fails the test."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def inference(self, *arguments: str) -> str:
        """Run the copy's command line."""
        return self.run(sys.executable, "-m", "commands.main", *arguments)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project with the page's files and registry entries, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy") / "project"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        if not name.startswith(("tests/", "benchmarks/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    for what, name, text in _BLOCK.findall(PAGE.read_text()):
        path = folder / name
        if what == "title":
            assert not path.exists(), f"{name} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        else:
            add_to_registry(path, text)
    shutil.copy(folder / "containers/tabular/requirements.txt", folder / "containers/lookup/requirements.txt")
    made = Project(folder, tmp_path_factory.mktemp("local") / "state")
    made.inference("local", "up")
    try:
        exports = re.findall(r"^export (\w+)=(.*)$", made.inference("local", "env"), re.MULTILINE)
        made.environment |= {name: value.strip("'") for name, value in exports}
        yield made
    finally:
        made.inference("local", "down")


def add_to_registry(path: Path, text: str) -> None:
    """Add the import before the first of its package's, and the entry to the registry's dict."""
    statement, entry = (line for line in text.splitlines() if line.strip())
    lines = path.read_text().splitlines()
    package = statement.split()[1].partition(".")[0]
    lines.insert(next(i for i, line in enumerate(lines) if line.startswith(f"from {package}.")), statement)
    lines.insert(next(i for i, line in enumerate(lines) if re.match(r"[A-Z]+: .* = \{$", line)) + 1, entry)
    path.write_text("\n".join(lines) + "\n")


def test_it_deploys_and_responds(project: Project) -> None:
    project.run("cdk", "bootstrap", "--app", "", "aws://000000000000/us-east-1")
    project.run("cdk", "deploy", "--all", "--require-approval", "never", "-c", "deployment=words")
    script = (
        "import boto3, sys; runtime = boto3.client('sagemaker-runtime'); "
        "response = runtime.invoke_endpoint(EndpointName='words-numbers-main', ContentType='application/json', "
        "Body=sys.argv[1]); print(response['Body'].read().decode())"
    )
    assert json.loads(project.run(sys.executable, "-c", script, '{"word": "two"}')) == {"number": 2.0}


def test_it_can_be_loaded(project: Project, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    project.inference(
        "load-test", "numbers", "--deployment", "words", "--duration", "2", "--warm-up", "1", "--gate", "errors<=0%",
        "--json", str(result),
    )  # fmt: skip
    assert json.loads(result.read_text())["names"][0]["name"] == "words-numbers-main"


def test_it_is_reported(project: Project, tmp_path: Path) -> None:
    project.inference("report", "--deployment", "words", "--seconds", "1", "--output", str(tmp_path))
    assert "3 words" in (tmp_path / "report.md").read_text()


def test_it_is_destroyed_without_leftovers(project: Project) -> None:
    project.run("cdk", "destroy", "--all", "--force", "-c", "deployment=words")
    assert "words-numbers" not in project.inference("leftovers", "--deployment", "words")
