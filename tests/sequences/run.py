"""Deploys a sequence of edits, and checks after each that what is served is what the file says."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import yaml
from aws_cdk import App

from app import compose
from local_aws.account import CONCURRENT_STACKS, ROOT
from stacks.settings.deployment import Deployment, DeploymentError
from tests.local_account import assert_nothing_is_deployed, bootstrap, cdk, deploy, destroy
from tests.sequences.edits import Edit, first_document, next_edit
from tests.sequences.served import differences, expected, served

Deploy = Callable[[Path], "subprocess.CompletedProcess[str]"]
"""Deploys a file; the exit code and the text of the errors tell of a refusal."""


def deploy_in_process(path: Path) -> "subprocess.CompletedProcess[str]":
    """Synthesize in this process, which takes a fraction of the time, and deploy with the CDK's command line."""
    try:
        deployment = Deployment.named(str(path))
    except DeploymentError as error:
        return subprocess.CompletedProcess([], 1, "", str(error))
    output = str(path.parent / "cdk.out")
    app = App(outdir=output, context=json.loads((ROOT / "cdk.json").read_text())["context"])
    compose(app, deployment)
    app.synth()
    return cdk("deploy", "--all", "--require-approval", "never", *CONCURRENT_STACKS, "--app", output)


class Sequence:
    """A deployment file in a folder, and the account in which it is deployed.

    done: the steps so far, one line each.
    """

    def __init__(self, folder: Path, seed: int, deploy: Deploy = deploy) -> None:
        self._deploy = deploy
        self._path, self._refused = folder / "seq.yaml", folder / "refused" / "seq.yaml"
        self._refused.parent.mkdir()
        self._random, self._document = Random(seed), first_document()
        self.done: list[str] = []
        self._write(self._path, self._document)
        bootstrap()
        done = self._deploy(self._path)
        assert done.returncode == 0, done.stderr[-3000:]
        self._check("the first deployment")

    def step(self) -> None:
        """Deploy one more edit; fails when it is not deployed or refused as it should be."""
        edit = next_edit(self._document, self._random)
        if edit.refused_by is not None:
            self._refuse(edit)
        else:
            self._document = edit.document
            self._write(self._path, edit.document)
            done = self._deploy(self._path)
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
        done = self._deploy(self._refused)
        assert done.returncode != 0, f"{edit.text}: it was deployed"
        assert edit.reason in done.stderr, f"{edit.text}: {edit.reason!r} is not in\n{done.stderr[-3000:]}"

    def _check(self, text: str) -> None:
        different = differences(expected(self._path), served())
        assert not different, "\n".join([f"after {text}, and before it {self.done[-5:]}:", *different])

    @staticmethod
    def _write(path: Path, document: object) -> None:
        path.write_text(yaml.safe_dump(document, sort_keys=False))
