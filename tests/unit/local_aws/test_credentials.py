"""Keys of a local account: random, private to their owner, and gone once they are revoked or expired."""

import os
import time
from pathlib import Path

import pytest

from local_aws.authentication.credentials import DEPLOYER, Credential, CredentialStore, new_credential
from local_aws.private_files import create_private, make_parts_private, make_private


def test_every_key_is_another_in_awss_format() -> None:
    keys = [new_credential(DEPLOYER) for _ in range(50)]
    assert len({key.access_key_id for key in keys}) == len({key.secret_access_key for key in keys}) == 50
    assert all(key.access_key_id.startswith("AKIA") and len(key.access_key_id) == 20 for key in keys)
    assert new_credential("task/1", temporary=True).access_key_id.startswith("ASIA")


def test_a_temporary_key_has_a_session_token_and_clients_get_it() -> None:
    assert "AWS_SESSION_TOKEN" in new_credential("task/1", temporary=True).environment()
    assert "AWS_SESSION_TOKEN" not in new_credential(DEPLOYER).environment()


def test_only_the_owner_can_read_a_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        CredentialStore(tmp_path).issue(DEPLOYER)
    finally:
        os.umask(before)
    (file,) = (tmp_path / "credentials").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "credentials").stat().st_mode & 0o777 == 0o700


def test_a_key_is_found_by_every_process_of_the_account_until_it_is_revoked(tmp_path: Path) -> None:
    one, other = CredentialStore(tmp_path), CredentialStore(tmp_path)
    key = one.issue("build/1", temporary=True, lifetime_seconds=60)
    assert other.find(key.access_key_id) == key
    one.revoke(key.access_key_id)
    assert other.find(key.access_key_id) is None


def test_an_expired_key_says_so_and_is_removed_with_the_next(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    key = store.issue("build/1", lifetime_seconds=-1)
    assert key.expired
    store.remove_expired()
    assert store.find(key.access_key_id) is None


@pytest.mark.parametrize(
    "key_id", ["", "short", "../../../../etc/passwd", "A" * 129, "AKIA/../../../secrets", "A" * 16 + "\n"]
)
def test_no_id_of_a_key_names_a_path(tmp_path: Path, key_id: str) -> None:
    store = CredentialStore(tmp_path)
    assert store.find(key_id) is None
    with pytest.raises(ValueError, match="access_key_id"):
        store.add(Credential(key_id, "x", "session/x"))


def test_a_damaged_file_is_no_key(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    key = store.issue(DEPLOYER)
    time.sleep(0.01)
    (tmp_path / "credentials" / f"{key.access_key_id}.json").write_text("{")
    assert store.find(key.access_key_id) is None


def test_a_private_file_is_new_and_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "link")
    assert not (tmp_path / "target").exists()


def test_an_open_folder_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    make_private(tmp_path / "open")
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_the_folder_around_a_cache_keeps_its_mode_and_a_new_one_is_private(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    for folder, mode in (("home", 0o755), ("new", 0o700)):
        make_parts_private(tmp_path / folder, ["envs"])
        assert (tmp_path / folder).stat().st_mode & 0o777 == mode
        assert (tmp_path / folder / "envs").stat().st_mode & 0o777 == 0o700


def test_a_link_is_not_made_private_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectoryError, match="is a symbolic link"):
        make_private(tmp_path / "link")
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_cache_in_which_others_can_put_files_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(mode)
    with pytest.raises(PermissionError, match="writable by other users"):
        make_parts_private(tmp_path / "shared", ["envs"])
    assert (tmp_path / "shared").stat().st_mode & 0o7777 == mode
    assert list((tmp_path / "shared").iterdir()) == []
