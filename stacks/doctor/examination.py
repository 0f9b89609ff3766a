"""All checks, in the order in which a first deployment would fail."""

from collections.abc import Iterator

from botocore.exceptions import BotoCoreError, ClientError

from stacks.doctor import account, file
from stacks.doctor.findings import CheckOf, Finding, Patient

_FILE: tuple[CheckOf, ...] = (file.placeholders, file.recipients, file.hourly_cost)
_ACCOUNT: tuple[CheckOf, ...] = (account.bootstrap, account.sources, account.service_roles)
_AWS_ONLY: tuple[CheckOf, ...] = (account.instance_quotas, account.build_quotas)
"""Checks of what the local account does not have."""


def examine(patient: Patient) -> Iterator[Finding]:
    """Yield the findings of every check; without credentials, of those of the file only."""
    credentials = list(_guarded(account.identity, patient))
    yield from credentials
    stopped = any(each.verdict == "stop" for each in credentials)
    checks = _FILE if stopped else (*_FILE, *_ACCOUNT, *(() if patient.local else _AWS_ONLY))
    for check in checks:
        yield from _guarded(check, patient)


def _guarded(check: CheckOf, patient: Patient) -> Iterator[Finding]:
    try:
        yield from check(patient)
    except (ClientError, BotoCoreError) as error:
        yield account.unable(check.__name__, error)
