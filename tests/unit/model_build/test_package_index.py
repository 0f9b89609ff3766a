"""Where a build's packages come from."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE_ARTIFACT = "packages-of-ours-123456789012.d.codeartifact.eu-west-1.amazonaws.com/pypi/mirror/simple/"


def sourced(tmp_path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """pip's index after sourcing, in a copy of a build's sources; `aws` writes down what it is asked."""
    (tmp_path / "bin").mkdir()
    aws = tmp_path / "bin" / "aws"
    aws.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho a-token\n')
    aws.chmod(0o755)
    folder = tmp_path / "model_build" / "neuron_encoder"
    folder.mkdir(parents=True)
    (folder / "requirements-inf2.txt").write_text("--extra-index-url https://elsewhere.example\ntorch==1\n")
    (tmp_path / "model_build" / "package_index.sh").write_text((ROOT / "model_build/package_index.sh").read_text())
    return subprocess.run(
        ["bash", "-c", 'set -euo pipefail; source model_build/package_index.sh; echo "${PIP_INDEX_URL-PyPI}"'],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )


def test_without_an_index_packages_come_from_pypi_and_nobody_is_asked(tmp_path: Path) -> None:
    assert sourced(tmp_path, CODEBUILD_BUILD_ID="b").stdout.strip() == "PyPI"
    assert not (tmp_path / "asked").exists()
    assert "--extra-index-url" in (tmp_path / "model_build/neuron_encoder/requirements-inf2.txt").read_text()


def test_a_mirror_is_used_as_it_is_and_no_other_index_beside_it(tmp_path: Path) -> None:
    url = "https://packages.example.com/simple/"
    assert sourced(tmp_path, PACKAGE_INDEX=url, CODEBUILD_BUILD_ID="b").stdout.strip() == url
    assert (tmp_path / "model_build/neuron_encoder/requirements-inf2.txt").read_text() == "torch==1\n"


def test_a_checkout_that_is_no_builds_copy_is_left_as_it_is(tmp_path: Path) -> None:
    sourced(tmp_path, PACKAGE_INDEX="https://packages.example.com/simple/")
    assert "--extra-index-url" in (tmp_path / "model_build/neuron_encoder/requirements-inf2.txt").read_text()


def test_a_repository_of_code_artifact_is_logged_in_to_by_the_builds_role(tmp_path: Path) -> None:
    done = sourced(tmp_path, PACKAGE_INDEX=f"https://{CODE_ARTIFACT}")
    assert done.stdout.strip() == f"https://aws:a-token@{CODE_ARTIFACT}"
    asked = (tmp_path / "asked").read_text()
    assert "--domain packages-of-ours --domain-owner 123456789012 --region eu-west-1" in asked


@pytest.mark.parametrize("workload", ["encoder", "neuron_encoder", "tabular", "saved_model"])
def test_every_build_asks_for_its_index_before_it_installs(workload: str) -> None:
    script = (ROOT / "model_build" / workload / "codebuild.sh").read_text()
    assert script.index("source model_build/package_index.sh") < script.index("install_packages")


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({}, ["pip install --quiet --disable-pip-version-check -r some.txt"]),
        ({"INFERENCE_UV": "{bin}/uv"}, ["uv pip install --quiet --python {folder}/bin/python -r some.txt"]),
    ],
    ids=["pip on AWS", "uv in the local account"],
)
def test_packages_are_installed_by_the_uv_that_the_local_account_names_and_else_by_pip(
    variables: dict[str, str], asked: list[str], tmp_path: Path
) -> None:
    folder, places = tmp_path / "venv", {"bin": str(tmp_path / "venv/bin"), "folder": str(tmp_path / "venv")}
    (folder / "bin").mkdir(parents=True)
    for name in ("pip", "uv"):
        (folder / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", f"source model_build/package_index.sh; install_packages {folder} -r some.txt"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **{name: value.format(**places) for name, value in variables.items()}},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines() == [line.format(**places) for line in asked]
