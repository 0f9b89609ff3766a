"""Models are traced with the release of the Neuron SDK that serves them."""

import re
from pathlib import Path

import model_build.neuron_encoder
from containers.neuron_encoder.sdk import RELEASE

REQUIREMENTS = Path(model_build.neuron_encoder.__file__).with_name("requirements-inf2.txt")


def test_the_build_installs_the_packages_of_the_image() -> None:
    installed = dict(re.findall(r"^([\w-]+)==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE))
    assert {package: installed[package] for package in RELEASE.packages} == RELEASE.packages


def test_the_image_has_the_release_in_its_tag() -> None:
    assert f"-sdk{RELEASE.version}-" in RELEASE.image
    torch_neuronx = RELEASE.packages["torch-neuronx"]
    assert RELEASE.image.partition(":")[2].startswith(torch_neuronx[:3])
