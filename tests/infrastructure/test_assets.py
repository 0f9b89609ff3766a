"""What a synth stages for images, builds and functions, from a copy of the project with things that lie around."""

import json
import shutil
from pathlib import Path

import pytest

from tests.infrastructure import conftest
from tests.infrastructure.conftest import ROOT, run_app

PARTS = ("containers", "deployments", "load_tests", "model_build", "sizing", "stacks")
FILES = ("app.py", "cdk.json", "package.json")
PLACES = ("containers", "containers/serving", "containers/tabular", "model_build", "model_build/tabular",
          "load_tests", "stacks/constructs/built_artifact_handler", ".")  # fmt: skip
PLANTED = (".env", "id_rsa", "credentials", "notes.txt", "handler.py~", ".dockerignore", ".venv/lib/site.py",
           ".cache/step/data.json", "venv/site.py")  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, which `run_app` synthesizes."""
    root = tmp_path / "project"
    for part in PARTS:
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for file in FILES:
        shutil.copy(ROOT / file, root / file)
    monkeypatch.setattr(conftest, "ROOT", root)
    return root


@pytest.fixture
def deployment(tmp_path: Path) -> str:
    """One with an image, a build, the functions that start it, and load tests."""
    path = tmp_path / "small.yaml"
    path.write_text(
        json.dumps(
            {
                "environment": "small",
                "load_test": {},
                "workloads": {"tabular": {"kind": "tabular", "endpoints": {"all": {"instance_type": "ml.c5.xlarge"}}}},
            }
        )
    )
    return str(path)


def staged(folder: Path) -> dict[str, set[str]]:
    """Files of every asset of this project's, by the asset's name, which holds its hash."""
    return {
        asset.name: {path.relative_to(asset).as_posix() for path in asset.rglob("*") if not path.is_dir()}
        for asset in folder.glob("asset.*")
        if asset.is_dir()
    }


def test_what_lies_around_changes_no_asset_and_no_template(project: Path, deployment: str, tmp_path: Path) -> None:
    outputs = tmp_path / "clean", tmp_path / "littered"
    assert run_app(outputs[0], deployment, CDK_VALIDATION="false").returncode == 0
    for place in PLACES:
        for name in PLANTED:
            (project / place / name).parent.mkdir(parents=True, exist_ok=True)
            (project / place / name).write_text("*\n")
        (project / place / "passwd.py").symlink_to("/etc/passwd")
    done = run_app(outputs[1], deployment, CDK_VALIDATION="false")
    assert done.returncode == 0, done.stderr
    before, after = (staged(output) for output in outputs)
    assert after == before
    images = [files for files in before.values() if any(file.endswith("Dockerfile") for file in files)]
    assert len(images) == 3, "the image of the model, that of load tests, and the source of builds"
    templates = [{path.name: path.read_text() for path in output.glob("*.template.json")} for output in outputs]
    assert templates[0] == templates[1]


def test_a_secret_in_what_is_shipped_stops_the_synth_with_the_files_name(
    project: Path, deployment: str, tmp_path: Path
) -> None:
    with (project / "containers/serving/limits.py").open("a") as file:
        file.write('KEY = "AKIA' + 'IOSFODNN7EXAMPLE"\n')
    done = run_app(tmp_path / "output", deployment)
    assert done.returncode == 1
    assert "containers/serving/limits.py, line" in done.stderr and "an AWS access key" in done.stderr
    assert "IOSFODNN7EXAMPLE" not in done.stderr and "Traceback" not in done.stderr
