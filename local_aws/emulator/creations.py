"""Journal of the named resources that stack operations are creating.

MiniStack saves its services one after the other. If it is killed in between, a resource may be in the saved state of
its service, but not in that of its stack. CloudFormation would then refuse its name in the next deployment, as if
someone else had created it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from local_aws.private_files import create_private


@dataclass(frozen=True, slots=True)
class Creation:
    """A resource that a stack began to create: its stack's ID, its logical ID, its type, its name, and its region."""

    stack: str
    logical_id: str
    kind: str
    name: str
    region: str


class Journal:
    """The creations of operations whose outcome is not saved yet, in a file that the next process reads."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, creation: Creation) -> None:
        """Add a creation, before it is visible to anyone."""
        self._write([*self.read(), creation])

    def end(self, stack: str) -> None:
        """Drop a stack's creations, once the outcome of its operation is saved."""
        before = self.read()
        after = [each for each in before if each.stack != stack]
        if after != before:
            self._write(after)

    def read(self) -> list[Creation]:
        """Return all creations, in their order."""
        try:
            return [Creation(**each) for each in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []

    def _write(self, creations: Iterable[Creation]) -> None:
        partial = self._path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with create_private(partial) as file:
            file.write(json.dumps([asdict(each) for each in creations]).encode())
        partial.replace(self._path)
