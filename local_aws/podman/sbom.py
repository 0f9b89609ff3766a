"""Contents of an image as a CycloneDX bill of materials, validated against its schema."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from local_aws.podman.build import Built
from local_aws.podman.engine import EngineError, Podman

_SCHEMA = SchemaVersion.V1_6
_LIST_DEBIAN = (
    r"dpkg-query --show --showformat '${Package}\t${Version}\t${Architecture}\n'; . /etc/os-release; echo $ID"
)
_LIST_PYTHON = """
import glob, json, platform
from importlib.metadata import distributions
folders = glob.glob("/usr/local/lib/python3*/site-packages") + glob.glob("/opt/venv/lib/python3*/site-packages")
found = sorted({(each.metadata["Name"], each.version) for each in distributions(path=folders)})
print(json.dumps({"python": platform.python_version(), "packages": found}))
"""


@dataclass(frozen=True, slots=True)
class Contents:
    """Packages of an image. debian: name, version and architecture of each; python: name and version of each.

    distribution: ID of its /etc/os-release. interpreter: CPython's version.
    """

    distribution: str
    debian: tuple[tuple[str, str, str], ...]
    interpreter: str
    python: tuple[tuple[str, str], ...]

    @property
    def packages(self) -> int:
        """Number of Debian and Python packages, plus one for the interpreter."""
        return len(self.debian) + len(self.python) + 1


def contents(podman: Podman, image: str) -> Contents:
    """Return the packages that the image itself lists, run without network or capabilities; raise EngineError."""
    sealed = ("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--user=10001:10001")
    listed = podman.call(*sealed, "--entrypoint=sh", image, "-c", _LIST_DEBIAN).splitlines()
    python = json.loads(podman.call(*sealed, "--entrypoint=python3", image, "-c", _LIST_PYTHON))
    return parse(listed, python)


def parse(debian: list[str], python: Mapping[str, object]) -> Contents:
    """Parse the output of both listings; raise EngineError if either is empty."""
    *lines, distribution = debian or [""]
    packages = tuple((name, version, arch) for name, version, arch in (line.split("\t") for line in lines))
    listed = python["packages"]
    assert isinstance(listed, list)
    if not packages or not listed:
        raise EngineError(
            f"the image lists {len(packages)} Debian and {len(listed)} Python packages: it must have both"
        )
    python_packages = tuple((str(name), str(version)) for name, version in listed)
    return Contents(distribution, packages, str(python["python"]), python_packages)


def document(name: str, built: Built, held: Contents) -> str:
    """Return the bill of materials as CycloneDX JSON; raise EngineError if it does not match the schema."""
    bom = Bom()
    image = Component(name=name, version=built.digest, type=ComponentType.CONTAINER, bom_ref=f"{name}@{built.digest}")
    bom.metadata.component = image
    for package, version, architecture in held.debian:
        purl = PackageURL("deb", held.distribution, package, version, {"arch": architecture})
        bom.components.add(_component(package, version, purl))
    for package, version in held.python:
        bom.components.add(_component(package, version, PackageURL("pypi", None, package.lower(), version)))
    interpreter = PackageURL("generic", None, "python", held.interpreter)
    bom.components.add(_component("python", held.interpreter, interpreter, ComponentType.APPLICATION))
    bom.register_dependency(image, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, _SCHEMA).output_as_string(indent=1)
    if (wrong := JsonStrictValidator(_SCHEMA).validate_str(text)) is not None:
        raise EngineError(f"the bill of materials of {name} is not valid CycloneDX: {wrong}")
    return text + "\n"


def _component(name: str, version: str, purl: PackageURL, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    return Component(name=name, version=version, type=kind, purl=purl, bom_ref=purl.to_string())
