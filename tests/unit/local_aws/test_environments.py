"""Environments in the cache, and where uv takes their packages from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_aws import installer
from local_aws.environments import EnvironmentSetupError, environment
from local_aws.installer import INSTALLER_VARIABLE, UV_VARIABLE, settings_in, uv_environment
from model_build.owned_folders import MARKER

STRATEGY = {"UV_INDEX_STRATEGY": "unsafe-best-match"}


@pytest.fixture(autouse=True)
def nothing_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", UV_VARIABLE, INSTALLER_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def told(cache: Path) -> dict[str, str]:
    """What uv is told, without what it is always told."""
    found = uv_environment(cache)
    assert Path(found.pop(UV_VARIABLE)).name == "uv"
    assert found.pop("UV_CACHE_DIR") == str(cache / "uv")
    return found


def test_uv_takes_the_best_version_of_all_places_as_pip_does(tmp_path: Path) -> None:
    assert told(tmp_path) == STRATEGY


def test_uv_looks_where_pip_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.com/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://one.example.com https://two.example.com")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels /more-wheels")
    monkeypatch.setenv("PIP_CERT", "/certificates.crt")
    assert told(tmp_path) == {
        **STRATEGY,
        "UV_DEFAULT_INDEX": "https://packages.example.com/simple",
        "UV_INDEX": "https://one.example.com https://two.example.com",
        "UV_FIND_LINKS": "/wheels,/more-wheels",
        "SSL_CERT_FILE": "/certificates.crt",
    }


def test_what_uv_is_told_already_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://packages.example.com/simple")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://uv.example.com/simple")
    assert told(tmp_path) == STRATEGY


def test_a_variable_goes_before_a_file_and_what_is_not_about_installing_is_left_out() -> None:
    listed = (
        ":env:.index-url='https://variable'",
        "freeze.index-url='https://freeze'",
        "global.extra-index-url='https://one\\nhttps://two'",
        "global.index-url='https://file'",
        "install.index-url='https://install'",
    )
    assert settings_in("\n".join(listed)) == {
        "index-url": "https://variable",
        "extra-index-url": "https://one https://two",
    }


@pytest.mark.parametrize(("name", "value"), [(INSTALLER_VARIABLE, "pip"), ("PIP_NO_INDEX", "1")])
def test_pip_installs_when_it_is_asked_to_or_is_told_what_uv_is_not(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert uv_environment(tmp_path) == {}


def test_the_exports_are_the_shells(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(installer.__file__), str(tmp_path / "a cache")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert f"export UV_CACHE_DIR='{tmp_path}/a cache/uv'" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("by", "help_"), [("uv", "set INFERENCE_INSTALLER=pip to use pip"), ("pip", "pip install failed")]
)
def test_an_environment_that_cannot_be_made_says_why(
    by: str, help_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INSTALLER_VARIABLE, by)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./not-here\n")
    with pytest.raises(EnvironmentSetupError, match="not-here") as raised:
        environment(tmp_path / "cache", "some", requirements)
    assert help_ in str(raised.value)


def test_an_environment_whose_making_failed_is_made_again(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.touch()
    left = environment(tmp_path / "cache", "some", requirements)
    (left / "ready").unlink()
    (left / "half-made").touch()
    folder = environment(tmp_path / "cache", "some", requirements)
    assert folder == left and (folder / "bin/python").exists() and (folder / "ready").exists()
    assert not (folder / "half-made").exists()


def test_an_interrupted_environment_is_made_again_and_anybodys_folder_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr("local_aws.environments._install", lambda _cache, folder, *_options: made.append(folder))
    (tmp_path / "requirements.txt").write_text("pip==1\n")
    folder = environment(tmp_path / "cache", "a", tmp_path / "requirements.txt")
    (folder / "ready").unlink()
    (folder / "half").write_text("installed")
    assert environment(tmp_path / "cache", "a", tmp_path / "requirements.txt") == folder
    assert not (folder / "half").exists()
    for name in ("ready", MARKER):
        (folder / name).unlink()
    (folder / "work").write_text("of somebody")
    with pytest.raises(EnvironmentSetupError, match="this project did not create"):
        environment(tmp_path / "cache", "a", tmp_path / "requirements.txt")
    assert (folder / "work").exists()
    assert len(made) == 2
