"""A finding, and what the checks are given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from stacks.settings.deployment import Deployment

Verdict = Literal["ok", "warning", "stop"]
CheckOf = Callable[["Patient"], Iterator["Finding"]]
"""A check: yields what it finds, at least one finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. fix: the command or setting that mends it, empty where nothing is to be done."""

    verdict: Verdict
    check: str
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A deployment, and the account and region that it is about to be deployed into.

    file: deployment as the command line names it. region: None where neither the file nor the environment has one.
    client: makes the client of a service. local: whether it is the local account, which has no quotas.
    """

    deployment: Deployment
    file: str
    region: str | None
    client: Callable[[str], Any]
    local: bool
