"""Folders: `up` takes what is new or empty, `down` deletes what `up` made, and neither follows a link."""

import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands.main import app
from model_build.owned_folders import (
    ACCOUNT,
    MARKER,
    FolderRefusedError,
    claim,
    is_marked,
    remove,
    remove_within,
    replace,
)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with somebody's work in it."""
    folder = tmp_path / "thesis"
    (folder / "chapters").mkdir(parents=True)
    (folder / "chapters/one.txt").write_text("years of work")
    return folder


def untouched(folder: Path) -> bool:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return files == {"chapters", "chapters/one.txt"}


@pytest.mark.parametrize("command", ["down", "up"])
def test_a_folder_that_no_account_made_is_refused_and_left_alone(foreign: Path, tmp_path: Path, command: str) -> None:
    options = ["--cache", str(tmp_path / "cache")] if command == "up" else []
    done = CliRunner().invoke(app, ["local", command, "--state", str(foreign), *options])
    assert done.exit_code == 1
    assert str(foreign) in done.output
    assert untouched(foreign)


@pytest.mark.parametrize("command", ["down", "up"])
def test_the_folder_named_by_the_environment_is_held_to_the_same(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("INFERENCE_LOCAL_STATE", str(foreign))
    assert CliRunner().invoke(app, ["local", command]).exit_code == 1
    assert untouched(foreign)


def test_an_account_file_alone_does_not_make_a_folder_deletable(foreign: Path) -> None:
    (foreign / "account.json").write_text("{}")
    assert CliRunner().invoke(app, ["local", "down", "--state", str(foreign)]).exit_code == 1
    assert (foreign / "chapters/one.txt").exists()


def test_a_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    claim(tmp_path / "made")
    (tmp_path / "link").symlink_to(tmp_path / "made")
    with pytest.raises(FolderRefusedError, match="is a link"):
        remove(tmp_path / "link")
    with pytest.raises(FolderRefusedError, match="is a link"):
        claim(tmp_path / "link")
    assert (tmp_path / "made" / MARKER).exists()


def test_a_marker_that_is_a_link_marks_nothing(foreign: Path, tmp_path: Path) -> None:
    claim(tmp_path / "made")
    (foreign / MARKER).symlink_to(tmp_path / "made" / MARKER)
    with pytest.raises(FolderRefusedError):
        remove(foreign)
    assert (foreign / "chapters/one.txt").exists()


def test_links_inside_a_marked_folder_go_and_what_they_lead_to_stays(foreign: Path, tmp_path: Path) -> None:
    claim(tmp_path / "made")
    (tmp_path / "made/link").symlink_to(foreign)
    remove(tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert untouched(foreign)


def test_a_new_or_an_empty_folder_is_claimed_and_deleted_again(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/deeper"):
        claim(tmp_path / name)
        (tmp_path / name / "file").write_text("")
        remove(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_folder_that_is_not_there_is_deleted_already(tmp_path: Path) -> None:
    remove(tmp_path / "absent")
    assert CliRunner().invoke(app, ["local", "down", "--state", str(tmp_path / "absent")]).exit_code == 0


def test_only_what_lies_below_a_marked_folder_is_deleted_from_it(foreign: Path, tmp_path: Path) -> None:
    owned = tmp_path / "owned"
    claim(owned)
    (owned / "part").mkdir()
    (owned / "link").symlink_to(foreign)
    remove_within(owned, owned / "part")
    assert not (owned / "part").exists()
    for outside in (foreign, owned / "link", owned / "../thesis", owned):
        with pytest.raises(FolderRefusedError):
            remove_within(owned, outside)
    assert untouched(foreign)
    assert owned.exists()


def test_a_marked_folder_is_replaced_by_an_empty_one_and_another_is_not(foreign: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    replace(made)
    (made / "old").write_text("")
    replace(made)
    assert [path.name for path in made.iterdir()] == [MARKER]
    with pytest.raises(FolderRefusedError):
        replace(foreign)
    assert untouched(foreign)


def test_down_deletes_an_accounts_state_and_no_other_folder_of_this_project(tmp_path: Path) -> None:
    claim(tmp_path / "environment")
    (tmp_path / "environment/file").touch()
    done = CliRunner().invoke(app, ["local", "down", "--state", str(tmp_path / "environment")])
    assert (done.exit_code, (tmp_path / "environment/file").exists()) == (1, True)
    claim(tmp_path / "state", ACCOUNT)
    assert CliRunner().invoke(app, ["local", "down", "--state", str(tmp_path / "state/sub/..")]).exit_code == 0
    assert not (tmp_path / "state").exists()


def test_another_users_marker_and_a_hard_link_to_one_mark_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(tmp_path / "made")
    (tmp_path / "other").mkdir()
    os.link(tmp_path / "made" / MARKER, tmp_path / "other" / MARKER)
    assert not is_marked(tmp_path / "other")
    (tmp_path / "other" / MARKER).unlink()
    assert is_marked(tmp_path / "made")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not is_marked(tmp_path / "made")


def test_a_tree_of_any_depth_is_deleted(tmp_path: Path) -> None:
    claim(tmp_path / "made")
    subprocess.run(["mkdir", "-p", f"{tmp_path}/made/" + "a/" * 1500], check=True)
    remove(tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_deletion_that_fails_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(tmp_path / "made")
    (tmp_path / "made/file").touch()
    with monkeypatch.context() as broken:
        broken.setattr("model_build.owned_folders._delete", fail)
        with pytest.raises(OSError, match="busy"):
            remove(tmp_path / "made")
    remove(tmp_path / "made")
    assert not (tmp_path / "made").exists()


def fail(path: Path) -> None:
    raise OSError(f"{path} is busy")
