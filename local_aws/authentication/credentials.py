"""Access keys of one local account, each in a file that only its owner can read."""

import base64
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from local_aws.private_files import create_private, make_private

DEPLOYER = "deployer"
"""Principal of the user's own shell."""
HOSTING = "service/hosting"
EMULATOR = "service/emulator"
SUPERVISOR = "service/supervisor"
FOLDER = "credentials"
_ACCESS_KEY_ID = re.compile(r"\w{16,128}", re.ASCII)
"""Length and characters of IAM's `accessKeyIdType`. It also keeps a key ID from naming a path."""


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key and its owner.

    principal: `deployer`, `service/NAME`, `build/ID`, `function/ARN`, `replica/ID`, `task/ID` or `session/ARN`.
    session_token: empty for long-term keys. expires: seconds since 1970, None for keys that do not expire.
    """

    access_key_id: str
    secret_access_key: str
    principal: str
    session_token: str = ""
    expires: float | None = None

    @property
    def expired(self) -> bool:
        """Whether the key is past its expiration."""
        return self.expires is not None and time.time() >= self.expires

    @property
    def operates(self) -> bool:
        """Whether the principal runs the account itself, as opposed to running inside it."""
        return self.principal in (DEPLOYER, HOSTING, EMULATOR, SUPERVISOR)

    def environment(self) -> dict[str, str]:
        """Return the variables from which AWS clients read the key."""
        variables = {"AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key}
        return {**variables, "AWS_SESSION_TOKEN": self.session_token} if self.session_token else variables


def new_credential(principal: str, *, temporary: bool = False, lifetime_seconds: float | None = None) -> Credential:
    """Generate a random key in AWS's format: `AKIA...`, or `ASIA...` with a session token for a temporary one."""
    random = base64.b32encode(secrets.token_bytes(10)).decode()
    return Credential(
        access_key_id=("ASIA" if temporary else "AKIA") + random,
        secret_access_key=secrets.token_urlsafe(30),
        principal=principal,
        session_token=secrets.token_urlsafe(96) if temporary else "",
        expires=None if lifetime_seconds is None else time.time() + lifetime_seconds,
    )


class CredentialStore:
    """The account's keys, shared by its processes through one private folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._cached: dict[str, tuple[int, Credential]] = {}

    def issue(self, principal: str, *, temporary: bool = False, lifetime_seconds: float | None = None) -> Credential:
        """Generate and store a key; raise OSError."""
        credential = new_credential(principal, temporary=temporary, lifetime_seconds=lifetime_seconds)
        self.add(credential)
        return credential

    def add(self, credential: Credential) -> None:
        """Store or replace a key generated elsewhere; raise ValueError for an ID that IAM would refuse."""
        path = self._path(credential.access_key_id)
        if path is None:
            raise ValueError(
                f"access_key_id is {credential.access_key_id!r}: it must be 16 to 128 letters, digits or underscores"
            )
        make_private(self._folder)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with create_private(partial) as file:
            file.write(json.dumps(asdict(credential)).encode())
        partial.replace(path)

    def find(self, access_key_id: str) -> Credential | None:
        """Return the key with that ID, or None."""
        path = self._path(access_key_id)
        if path is None:
            return None
        try:
            changed = path.stat().st_mtime_ns
            known = self._cached.get(access_key_id)
            if known is None or known[0] != changed:
                known = (changed, Credential(**json.loads(path.read_text())))
                self._cached[access_key_id] = known
        except (OSError, ValueError, TypeError):
            self._cached.pop(access_key_id, None)
            return None
        return known[1]

    def revoke(self, access_key_id: str) -> None:
        """Delete a key; requests signed with it are refused from now on."""
        path = self._path(access_key_id)
        if path is not None:
            path.unlink(missing_ok=True)

    def remove_expired(self) -> None:
        """Delete every key that is past its expiration."""
        for path in list(self._folder.glob("*.json")):
            credential = self.find(path.stem)
            if credential is not None and credential.expired:
                self.revoke(credential.access_key_id)

    def _path(self, access_key_id: str) -> Path | None:
        return self._folder / f"{access_key_id}.json" if _ACCESS_KEY_ID.fullmatch(access_key_id) else None
