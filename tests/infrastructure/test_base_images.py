"""Every image is built on the base that the deployment names by digest; production without one is warned."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infrastructure.conftest import ROOT, Assembly

BASE = "python:3.11-slim@sha256:" + "0" * 64
NEURON_BASE = "registry.example.com/neuron@sha256:" + "1" * 64


def images(folder: Path) -> Iterator[dict[str, Any]]:
    for path in folder.glob("*.assets.json"):
        for image in json.loads(path.read_text())["dockerImages"].values():
            yield image["source"]


def warnings(folder: Path) -> set[str]:
    found = set()
    for artifact in json.loads((folder / "manifest.json").read_text())["artifacts"].values():
        entries = artifact.get("metadata", {})
        if "additionalMetadataFile" in artifact:
            entries = {**entries, **json.loads((folder / artifact["additionalMetadataFile"]).read_text())}
        found |= {each["data"] for listed in entries.values() for each in listed if each["type"] == "aws:cdk:warning"}
    return found


def with_images(name: str, tmp_path: Path, **given: str) -> str:
    content = yaml.safe_load((ROOT / f"deployments/{name}.yaml").read_text())
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**content, "images": given}))
    return str(path)


@pytest.mark.parametrize("name", ["dev", "published"])
def test_every_image_has_the_base_of_its_kind(name: str, synthesize: Callable[..., Assembly], tmp_path: Path) -> None:
    given = with_images(name, tmp_path, base=BASE, neuron_base=NEURON_BASE)
    found = [source["dockerBuildArgs"] for source in images(synthesize(given, "bases").folder)]
    assert found
    for arguments in found:
        assert arguments["BASE_IMAGE"] == (NEURON_BASE if arguments.get("DEVICE") == "neuron" else BASE)


def test_production_on_a_tag_is_warned_with_the_setting_and_the_way_to_the_digest(
    synthesize: Callable[..., Assembly],
) -> None:
    (warning,) = {text for text in warnings(synthesize("prod").folder) if text.startswith("images.")}
    assert (
        "images.base is not set" in warning
        and "docker buildx imagetools inspect public.ecr.aws/docker/library/python:3.11-slim" in warning
    )


def test_production_on_a_digest_is_not_warned(synthesize: Callable[..., Assembly], tmp_path: Path) -> None:
    output = synthesize(with_images("prod", tmp_path, base=BASE), "base").folder
    assert not {text for text in warnings(output) if text.startswith("images.")}


def test_a_moving_revision_is_warned_of(synthesize: Callable[..., Assembly]) -> None:
    for name in ("prod", "published"):
        assert any("source.revision is 'main'" in text for text in warnings(synthesize(name).folder)), name
