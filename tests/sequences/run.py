"""Deploys a sequence of edits, and checks after each that what is served is what the file says."""

from pathlib import Path
from random import Random

import yaml

from tests.local_account import assert_nothing_is_deployed, bring_up, deploy, destroy
from tests.sequences.edits import Edit, first_document, next_edit
from tests.sequences.served import differences, expected, served


class Sequence:
    """A deployment file in a folder, and the account in which it is deployed.

    done: the steps so far, one line each.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._path, self._refused = folder / "seq.yaml", folder / "refused" / "seq.yaml"
        self._refused.parent.mkdir()
        self._random, self._document = Random(seed), first_document()
        self.done: list[str] = []
        self._write(self._path, self._document)
        bring_up(self._path)
        self._check("the first deployment")

    def step(self) -> None:
        """Deploy one more edit; fails when it is not deployed or refused as it should be."""
        edit = next_edit(self._document, self._random)
        if edit.refused_by is not None:
            self._refuse(edit)
        else:
            self._document = edit.document
            self._write(self._path, edit.document)
            done = deploy(self._path)
            assert done.returncode == 0, f"{edit.text}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        self._check(edit.text)
        self.done.append(edit.text if edit.refused_by is None else f"{edit.text}: refused")

    def destroy(self) -> None:
        """Destroy everything; fails if anything is left."""
        done = destroy(self._path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert_nothing_is_deployed()

    def _refuse(self, edit: Edit) -> None:
        self._write(self._refused, edit.document)
        done = deploy(self._refused)
        assert done.returncode != 0, f"{edit.text}: it was deployed"
        assert edit.reason in done.stderr, f"{edit.text}: {edit.reason!r} is not in\n{done.stderr[-3000:]}"

    def _check(self, text: str) -> None:
        different = differences(expected(self._path), served())
        assert not different, "\n".join([f"after {text}, and before it {self.done[-5:]}:", *different])

    @staticmethod
    def _write(path: Path, document: object) -> None:
        path.write_text(yaml.safe_dump(document, sort_keys=False))
