"""Settings that restrict a deployment's networks, and the check for secrets in any setting."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from stacks.settings.base import Settings

_SECRETS = {
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "an AWS secret access key": re.compile(r"(?i:secret_?access_?key)[\"']?\s*[:=]\s*[\"']?[0-9A-Za-z/+]{40}\b"),
    "a Hugging Face token": re.compile(r"\bhf_[0-9A-Za-z]{30,}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_\w{22,})\b"),
    "a GitLab token": re.compile(r"\bglpat-[\w-]{20,}"),
    "a PyPI token": re.compile(r"\bpypi-AgE[\w-]{16,}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{10,}"),
    "a Google API key": re.compile(r"\bAIza[\w-]{35}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+"),
    "a URL with a password": re.compile(r"\w://[^/@\s:]*:[^/@\s]+@"),
}
"""What secrets look like, by the forms that their issuers document."""
_SECRET_WORDS = r"(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|credentials?)"
_SECRET_KEY = re.compile(rf"(^|_|-){_SECRET_WORDS}$", re.IGNORECASE)
_REFERENCE = re.compile(r"^arn:[a-z-]+:(secretsmanager|ssm):|^\{\{resolve:(secretsmanager|ssm-secure):")
_WRITTEN_OUT = re.compile(
    rf"""(?<![^\W_]){_SECRET_WORDS}["']?\s*[:=]\s*["'](?P<value>[^"'\s<>{{}}\[\]()$]{{8,200}})["']""",
    re.IGNORECASE | re.ASCII,
)
"""A name such as `password` that is given a literal value in source code or a settings file.

Values with spaces, brackets or `$` do not match: they are phrases, templates or references.
"""
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
"""What such a text is when it names an environment variable."""


class Vpc(Settings):
    """An existing VPC in which the endpoints' containers run."""

    subnet_ids: tuple[str, ...] = Field(min_length=1)
    """Subnets of the containers."""
    security_group_ids: tuple[str, ...] = Field(min_length=1)
    """Security groups of the containers."""


class PrivateNetwork(Settings):
    """A network of the deployment's own, without internet, for everything that runs in the account.

    Models, builds, functions and load tests run in it. They reach AWS through VPC endpoints whose policies admit only
    this account. Builds take their packages from `model_build.package_index`.
    """

    vpc_cidr: str = Field(default="10.44.0.0/16", pattern=r"^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|2[0-4])$")
    """Address range of the network."""
    availability_zones: tuple[str, str] | None = None
    """Two Availability Zones. Without them, the region's first two."""


def refuse_secrets(data: Any) -> None:
    """Raise ValueError for a setting that looks like a secret; the message names it and never quotes it."""
    for path, key, text in _texts(data, "", ""):
        kind = _form(text)
        if kind is None and _SECRET_KEY.search(key) and not _REFERENCE.match(text):
            kind = "a secret"
        if kind is not None:
            raise ValueError(
                f"{path} looks like {kind}, which everybody who can read the file or the template would have: revoke "
                "it, and give the ARN of a secret in Secrets Manager where a setting takes one "
                "(model_build.hub_token_secret)"
            )


def find_secret(content: str) -> tuple[str, int] | None:
    """Return what the first secret in a file's content looks like and its line, or None; for any kind of file."""
    for kind, form in _SECRETS.items():
        if match := form.search(content):
            return kind, _line(content, match)
    for match in _WRITTEN_OUT.finditer(content):
        if not _REFERENCE.match(match["value"]) and not _VARIABLE.fullmatch(match["value"]):
            return "a secret", _line(content, match)
    return None


def _line(content: str, match: re.Match[str]) -> int:
    return content.count("\n", 0, match.start()) + 1


def _form(text: str) -> str | None:
    return next((kind for kind, form in _SECRETS.items() if form.search(text)), None)


def _texts(value: Any, path: str, key: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield f"a key of {path or 'the file'}", "", str(name)
            yield from _texts(inner, f"{path}.{name}" if path else str(name), str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}.{index}", key)
    elif isinstance(value, str):
        yield path, key, value


def check_alone(others: Mapping[str, Any]) -> None:
    """Raise ValueError for another network in addition to private_network; others: by the path of their setting."""
    for setting, vpc in others.items():
        if vpc is not None:
            raise ValueError(f"{setting} and private_network are both set, and each is a network: remove one")


def check_sources(workloads: Mapping[str, Any]) -> None:
    """Raise ValueError for a recipe that reads from the internet, which private_network cannot reach."""
    for path, source in _from_internet(workloads, "workloads"):
        raise ValueError(
            f"{path} is {source!r}, which builds cannot reach with private_network set: put it in S3 and give its "
            "s3:// URL"
        )


def _from_internet(recipes: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(recipes, Mapping):
        if recipes.get("kind") == "hugging_face":
            yield path, "hugging_face"
        for name, inner in recipes.items():
            yield from _from_internet(inner, f"{path}.{name}")
    elif isinstance(recipes, str) and recipes.startswith(("https://", "http://")):
        yield path, recipes
