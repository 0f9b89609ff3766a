"""Finds AWS's SDK, and refuses the placeholders of its name that PyPI has."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from model_build.errors import BuildError
from model_build.neuron_encoder.recipe import Target

INDEX = "https://pip.repos.neuron.amazonaws.com"
STUB_WORDS = "WRONG PACKAGE"
"""Of AWS's placeholders on PyPI: their description, and the ImportError of those that can be imported at all."""


@dataclass(frozen=True, slots=True)
class Pins:
    """A target's packages and versions, the framework first, and the module that traces."""

    module: str
    packages: dict[str, str]

    @property
    def framework(self) -> str:
        """The package that traces and runs."""
        return next(iter(self.packages))

    @property
    def install(self) -> str:
        """The command that installs it from AWS's own index."""
        pinned = " ".join(f"{package}=={version}" for package, version in self.packages.items())
        return f"pip install --extra-index-url {INDEX} {pinned}"


PINS: dict[Target, Pins] = {
    "inf2": Pins("torch_neuronx", {"torch-neuronx": "2.9.0.2.12.22436", "neuronx-cc": "2.23.6484.0"}),
    "inf1": Pins("torch_neuron", {"torch-neuron": "1.13.1.2.11.7.0", "neuron-cc": "1.24.0.0"}),
}


@dataclass(frozen=True, slots=True)
class Sdk:
    """An installed SDK: its tracing module, and versions by package without their build labels."""

    module: Any
    framework: str
    versions: dict[str, str]

    @property
    def version(self) -> str:
        """Of the framework, in the form that the server compares."""
        return self.versions[self.framework]


def load_sdk(
    target: Target,
    *,
    load: Callable[[str], Any] = import_module,
    find: Callable[[str], "metadata.PackageMetadata"] = metadata.metadata,
) -> Sdk:
    """The SDK of a target; raises BuildError with the command that installs it.

    load, find: import of a module, and metadata of an installed distribution.
    """
    pins = PINS[target]
    versions = {}
    for package in pins.packages:
        try:
            found = find(package)
        except metadata.PackageNotFoundError:
            raise BuildError(f"target is {target!r} and {package} is not installed: {pins.install}") from None
        if _is_stub(found):
            raise BuildError(
                f"{package} {found['Version']} is the placeholder of that name on PyPI, which says {STUB_WORDS!r}: "
                f"pip uninstall {package}, then {pins.install}"
            )
        versions[package] = found["Version"].partition("+")[0]
    try:
        module = load(pins.module)
    except ImportError as error:
        if STUB_WORDS in str(error):
            raise BuildError(
                f"{pins.module} is a placeholder from PyPI, which says {str(error)!r}: "
                f"pip uninstall {' '.join(pins.packages)}, then {pins.install}"
            ) from error
        raise BuildError(f"{pins.module} cannot be imported: {error}; install it anew: {pins.install}") from error
    return Sdk(module, pins.framework, versions)


def _is_stub(found: "metadata.PackageMetadata") -> bool:
    return STUB_WORDS in str(found.json.get("description", ""))
