"""Environment of a CodeBuild build: allow-listed variables, the project's own, and resolved secrets."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.account import ADDRESSES
from local_aws.authentication.credentials import Credential
from local_aws.child_environment import inherited

Variable = Mapping[str, str]
_STAGE = "AWSCURRENT"
MASK = "***"
"""What CodeBuild prints instead of a secret ("Environment variables in build environments")."""


class BuildEnvironmentError(ValueError):
    """A variable cannot be resolved; the message names the variable, its reference and the reason."""


_install_settings: dict[str, str] = {}


def withhold_install_settings() -> None:
    """Take pip's and uv's settings out of this process's environment, and keep them for builds.

    Lambda functions inherit that environment, and the URL of a package index may hold a password.
    """
    _install_settings.update(inherited(installs=True))
    for name in _install_settings.keys() - inherited().keys():
        del os.environ[name]


class BuildOutput:
    """Log of a build, with the values of its secrets masked."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._values: list[str] = []

    def emit(self, line: str) -> None:
        """Write one line."""
        self._write(self.mask(line))

    def hide(self, value: str) -> None:
        """Mask a value from now on."""
        if value and value not in self._values:
            # Longest first, because one value may start with another.
            self._values = sorted([*self._values, value], key=len, reverse=True)

    def mask(self, line: str) -> str:
        """Return a line with every secret masked."""
        for value in self._values:
            line = line.replace(value, MASK)
        return line


def base(credential: Credential) -> dict[str, str]:
    """Return the variables every build starts with: the machine's, the account's addresses, and the build's own key."""
    addresses = {name: os.environ[name] for name in ADDRESSES if name in os.environ}
    # A build brings its own environment, and must not use the emulator's interpreter.
    return {**_install_settings, **inherited(), **addresses, **credential.environment()}


def buildspec_variables(spec: Mapping[str, Any]) -> list[Variable]:
    """Return a buildspec's `env` in the form of a project's variables: plain, Parameter Store and Secrets Manager."""
    sections = spec.get("env") or {}
    kinds = {"variables": "PLAINTEXT", "parameter-store": "PARAMETER_STORE", "secrets-manager": "SECRETS_MANAGER"}
    return [
        {"name": name, "value": str(value), "type": kind}
        for section, kind in kinds.items()
        for name, value in (sections.get(section) or {}).items()
    ]


def resolved(variables: Sequence[Variable], output: BuildOutput) -> dict[str, str]:
    """Return the variables' values; later ones win. Secrets are looked up, and masked in the output.

    Raises BuildEnvironmentError.
    """
    latest = {variable["name"]: variable for variable in variables}
    values: dict[str, str] = {}
    for name, variable in latest.items():
        kind = variable.get("type", "PLAINTEXT")
        lookup = _LOOKUPS.get(kind)
        if lookup is None:
            kinds = ", ".join(_LOOKUPS)
            raise BuildEnvironmentError(f"environment variable {name} has the type {kind!r}: it must be one of {kinds}")
        try:
            values[name] = lookup(variable["value"])
        except (BotoCoreError, ClientError, LookupError, ValueError) as error:
            raise BuildEnvironmentError(
                f"environment variable {name}: {kind} {variable['value']} cannot be read: {error}"
            ) from error
        if kind != "PLAINTEXT":
            output.hide(values[name])
    return values


def _plain(value: str) -> str:
    return value


def _parameter(name: str) -> str:
    value: str = boto3.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    return value


def _secret(reference: str) -> str:
    """Read `SECRET-ID[:JSON-KEY[:VERSION-STAGE[:VERSION-ID]]]`, where the secret's ID may be an ARN."""
    parts = reference.split(":")
    # An ARN of Secrets Manager has seven parts.
    length = 7 if reference.startswith("arn:") else 1
    secret_id, rest = ":".join(parts[:length]), [*parts[length:], "", "", ""]
    key, stage, version = rest[:3]
    which = {"VersionId": version} if version else {"VersionStage": stage or _STAGE}
    text: str = boto3.client("secretsmanager").get_secret_value(SecretId=secret_id, **which)["SecretString"]
    if not key:
        return text
    document = json.loads(text)
    if not isinstance(document, dict) or key not in document:
        raise LookupError(f"the secret has no key {key!r}")
    value = document[key]
    return value if isinstance(value, str) else json.dumps(value)


_LOOKUPS = {"PLAINTEXT": _plain, "PARAMETER_STORE": _parameter, "SECRETS_MANAGER": _secret}
