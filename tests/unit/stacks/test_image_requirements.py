"""Images install the exact files that their requirements name, by hash, and nothing else."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from local_aws.environments import with_included
from stacks.constructs.assets import ROOT

BUILDS_WITHOUT_HASHES: Mapping[str, str] = {
    **dict.fromkeys(
        ("encoder/requirements.txt", "encoder/requirements-onnxruntime.txt", "encoder/requirements-ipex.txt"),
        "torch is PyPI's or a CPU wheel of another index, and each brings other packages",
    ),
    **dict.fromkeys(
        ("neuron_encoder/requirements-inf1.txt", "neuron_encoder/requirements-inf2.txt"),
        "the Neuron SDK is in an index of AWS, and its compiler chooses NumPy and protobuf",
    ),
    **dict.fromkeys(
        ("tabular/requirements.txt", "saved_model/requirements.txt"),
        "resolved with dependencies, by the Python and from the index that a deployment chooses (package_index)",
    ),
}
"""Files in model_build/ whose packages are pinned by version only, and why; images have no such exception."""
IMAGE_FILES = sorted((ROOT / "containers").glob("*/requirements*.txt"))
BUILD_FILES = sorted((ROOT / "model_build").glob("*/requirements*.txt"))
_PIN = re.compile(r"[A-Za-z][\w.-]*==\S+")
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def requirements(path: Path) -> Iterator[list[str]]:
    """Each requirement of one file, in parts: name and version, then its hashes."""
    logical = path.read_text().replace("\\\n", " ")
    for line in logical.splitlines():
        if line and not line.startswith(("#", "-r ", "--extra-index-url ")):
            yield line.split()


def has_hashes(path: Path) -> bool:
    return all(len(parts) > 1 for parts in requirements(path))


def name(path: Path) -> str:
    return path.relative_to(path.parents[1]).as_posix()


@pytest.mark.parametrize("path", IMAGE_FILES, ids=name)
def test_every_package_of_an_image_is_pinned_by_version_and_hash(path: Path) -> None:
    # One file without hashes among those that an image includes would make pip refuse all of them.
    for included in with_included(path):
        for pin, *hashes in requirements(included):
            assert _PIN.fullmatch(pin), (included, pin)
            assert hashes and all(_HASH.fullmatch(each) for each in hashes), (included, pin)
            assert len(set(hashes)) == len(hashes), (included, pin)


@pytest.mark.parametrize("path", sorted((ROOT / "containers").glob("*/Dockerfile")), ids=name)
def test_every_image_refuses_a_package_without_a_hash(path: Path) -> None:
    (install,) = re.findall(r"pip install (.+) \\\n", path.read_text())
    assert {"--no-deps", "--require-hashes"} <= set(install.split())


def test_two_files_that_pin_one_version_of_a_package_pin_the_same_files() -> None:
    seen: dict[str, frozenset[str]] = {}
    for path in IMAGE_FILES:
        for pin, *hashes in requirements(path):
            assert seen.setdefault(pin.lower().replace("_", "-"), frozenset(hashes)) == frozenset(hashes), (path, pin)


def test_what_a_build_installs_without_dependencies_has_hashes_and_the_rest_a_reason() -> None:
    assert {name(path) for path in BUILD_FILES if not has_hashes(path)} == set(BUILDS_WITHOUT_HASHES)


def test_every_package_of_a_build_is_pinned_by_version() -> None:
    for path in BUILD_FILES:
        for pin, *_ in requirements(path):
            assert _PIN.fullmatch(pin), (path, pin)
