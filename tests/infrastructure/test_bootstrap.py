"""The repository that images are pushed to: tags that never move, and a scan of whatever comes in."""

import subprocess

import pytest
import yaml

from tests.infrastructure.conftest import ROOT
from tools.bootstrap import REPOSITORY, hardened


@pytest.fixture(scope="module")
def template() -> str:
    """What the pinned CDK bootstraps with."""
    done = subprocess.run(
        [str(ROOT / "node_modules/.bin/cdk"), "bootstrap", "--show-template"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def test_images_are_scanned_on_push_and_their_tags_never_move(template: str) -> None:
    before, after = yaml.safe_load(template), yaml.safe_load(hardened(template))
    properties = after["Resources"][REPOSITORY]["Properties"]
    assert properties["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert properties["ImageTagMutability"] == "IMMUTABLE"
    del properties["ImageScanningConfiguration"]
    assert after == before, "and nothing else changes"


def test_a_repository_whose_tags_can_be_moved_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="ImageTagMutability is 'MUTABLE': set IMMUTABLE"):
        hardened(template.replace("ImageTagMutability: IMMUTABLE", "ImageTagMutability: MUTABLE"))


def test_another_template_is_refused() -> None:
    with pytest.raises(ValueError, match="has no ContainerAssetsRepository"):
        hardened("Resources: {}")
