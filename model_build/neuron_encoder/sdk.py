"""Find AWS's SDK, and refuse the placeholder packages with its names on PyPI."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from containers.neuron_encoder.sdk import RELEASE
from model_build.errors import BuildError
from model_build.neuron_encoder.recipe import Target

INDEX = "https://pip.repos.neuron.amazonaws.com"
STUB_WORDS = "WRONG PACKAGE"
"""Text in AWS's placeholders on PyPI: in their description, and in the ImportError of those that can be imported."""


@dataclass(frozen=True, slots=True)
class Pins:
    """A target's pinned packages.

    module: module that traces.
    packages: versions by package, the framework first.
    """

    module: str
    packages: Mapping[str, str]

    @property
    def framework(self) -> str:
        """Return the package that traces and runs models."""
        return next(iter(self.packages))

    @property
    def install(self) -> str:
        """Return the command that installs the packages from AWS's own index."""
        pinned = " ".join(f"{package}=={version}" for package, version in self.packages.items())
        return f"pip install --extra-index-url {INDEX} {pinned}"


PINS: dict[Target, Pins] = {
    "inf2": Pins("torch_neuronx", RELEASE.packages),
    "inf1": Pins("torch_neuron", {"torch-neuron": "1.13.1.2.11.7.0", "neuron-cc": "1.24.0.0"}),
}


@dataclass(frozen=True, slots=True)
class Sdk:
    """An installed SDK.

    module: module that traces.
    framework: package that traces and runs models.
    versions: versions by package, without build labels.
    """

    module: Any
    framework: str
    versions: dict[str, str]

    @property
    def version(self) -> str:
        """Return the framework's version, in the form that the server compares."""
        return self.versions[self.framework]


def load_sdk(
    target: Target,
    *,
    load: Callable[[str], Any] = import_module,
    find: Callable[[str], "metadata.PackageMetadata"] = metadata.metadata,
) -> Sdk:
    """Return the SDK of a target; raises BuildError with the command that installs it.

    load: imports a module.
    find: returns the metadata of an installed distribution.
    """
    pins = PINS[target]
    versions = {}
    for package in pins.packages:
        try:
            details = find(package)
        except metadata.PackageNotFoundError:
            raise BuildError(f"target is {target!r} and {package} is not installed: {pins.install}") from None
        if _is_stub(details):
            raise BuildError(
                f"{package} {details['Version']} is the placeholder of that name on PyPI, which says {STUB_WORDS!r}: "
                f"pip uninstall {package}, then {pins.install}"
            )
        versions[package] = details["Version"].partition("+")[0]
    try:
        module = load(pins.module)
    except ImportError as error:
        if STUB_WORDS in str(error):
            raise BuildError(
                f"{pins.module} is a placeholder from PyPI, which says {str(error)!r}: "
                f"pip uninstall {' '.join(pins.packages)}, then {pins.install}"
            ) from error
        raise BuildError(f"{pins.module} cannot be imported: {error}; reinstall it: {pins.install}") from error
    return Sdk(module, pins.framework, versions)


def _is_stub(details: "metadata.PackageMetadata") -> bool:
    return STUB_WORDS in str(details.json.get("description", ""))
