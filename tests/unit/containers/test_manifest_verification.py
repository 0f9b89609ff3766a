"""An artifact is verified by what the deployment says of it, and not by itself."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from containers.serving.contract import MANIFEST_FILE, MANIFEST_HASH_VARIABLE
from containers.serving.errors import StartupError
from containers.serving.manifest import SCHEMA_VERSION, EngineVersion, Manifest, load_manifest, sha256

WORKLOAD = "encoder"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An extracted archive with a library in it, and the deployment's word for it."""
    (tmp_path / "encoder.so").write_bytes(b"machine code")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/model.safetensors").write_bytes(b"numbers")
    monkeypatch.setenv(MANIFEST_HASH_VARIABLE, vouch(tmp_path))
    return tmp_path


def vouch(folder: Path, files: dict[str, str] | None = None) -> str:
    """Write a manifest of what is in the folder, and return its hash."""
    if files is None:
        paths = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_FILE]
        files = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, workload=WORKLOAD, precision="int8", recipe={}, source="test",
        engine=EngineVersion(name="vnni", version="1"), built_with={}, inputs=(), instruction_sets_any_of=(),
        calibration=None, accuracy=None, files=files,
    )  # fmt: skip
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
    return hashlib.sha256(manifest.to_json()).hexdigest()


def refusal(folder: Path) -> str:
    with pytest.raises(StartupError) as refused:
        load_manifest(folder, WORKLOAD)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_was_built_is_loaded(folder: Path) -> None:
    assert set(load_manifest(folder, WORKLOAD).files) == {"encoder.so", "weights/model.safetensors"}


def test_a_swapped_library_is_refused(folder: Path) -> None:
    (folder / "encoder.so").write_bytes(b"somebody else's code")
    assert "encoder.so is corrupt" in refusal(folder)


def test_a_swapped_library_is_refused_though_the_archives_own_manifest_vouches_for_it(folder: Path) -> None:
    (folder / "encoder.so").write_bytes(b"somebody else's code")
    vouch(folder)
    assert "manifest.json is not the one that was built" in refusal(folder)


def test_an_archive_with_an_empty_file_list_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = vouch(folder, {})
    assert "not the one that was built" in refusal(folder)
    monkeypatch.setenv(MANIFEST_HASH_VARIABLE, empty)
    assert "lists no files" in refusal(folder)
    monkeypatch.delenv(MANIFEST_HASH_VARIABLE)
    assert "lists no files" in refusal(folder)


def test_a_manifest_with_other_bytes_and_the_same_content_is_refused(folder: Path) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert "not the one that was built" in refusal(folder)


@pytest.mark.parametrize("name", ["extra.so", "weights/extra.so", "__pycache__/hook.pyc"])
def test_a_file_that_the_manifest_does_not_list_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    assert f"{name} is in the model archive but not in its manifest.json" in refusal(folder)


def test_a_link_is_no_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "encoder.so"
    elsewhere.write_bytes((folder / "encoder.so").read_bytes())
    (folder / "encoder.so").unlink()
    (folder / "encoder.so").symlink_to(elsewhere)
    assert "encoder.so is not a regular file" in refusal(folder)


def test_a_listed_file_outside_of_the_archive_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = folder.parent / "outside.so"
    outside.write_bytes(b"x")
    monkeypatch.setenv(MANIFEST_HASH_VARIABLE, vouch(folder, {"../outside.so": sha256(outside)}))
    assert "../outside.so is missing" in refusal(folder)


def test_without_a_deployment_the_manifest_vouches_for_itself_and_the_log_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(MANIFEST_HASH_VARIABLE)
    load_manifest(folder, WORKLOAD)
    assert MANIFEST_HASH_VARIABLE in caplog.text


def test_a_folder_that_cannot_be_listed_is_no_empty_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "weights").chmod(0o111)
    if os.geteuid() == 0:
        # The superuser lists every folder.
        def unlistable(path: str) -> object:
            if str(path).endswith("weights"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        scandir = os.scandir
        monkeypatch.setattr(os, "scandir", unlistable)
    try:
        assert "cannot read the whole model archive: Permission denied" in refusal(folder)
    finally:
        (folder / "weights").chmod(0o755)
