"""Checks of the deployment file alone."""

from collections.abc import Iterator, Mapping
from typing import Any

from sizing.prices import usd_per_hour
from stacks.doctor.findings import Finding, Patient

_MONTH_HOURS = 730
_PLACEHOLDERS = ("example.com", "123456789012", "111122223333")
"""What documentation writes where a reader must write something else."""


def placeholders(patient: Patient) -> Iterator[Finding]:
    """Find values that were copied from an example."""
    found = [
        (path, value)
        for path, value in _texts(patient.deployment.model_dump(mode="json"))
        if any(each in value for each in _PLACEHOLDERS)
    ]
    for path, value in found:
        yield Finding("stop", "placeholders", f"{path} is {value!r}, a placeholder", f"set {path} in {patient.file}")
    if not found:
        yield Finding("ok", "placeholders", "the file has none")


def hourly_cost(patient: Patient) -> Iterator[Finding]:
    """Add up what the SageMaker endpoints' instances cost at their initial numbers."""
    total, unknown = 0.0, set()
    workloads = patient.deployment.workloads.values()
    endpoints = [endpoint for workload in workloads for endpoint in workload.sagemaker_endpoints.values()]
    for instance_type, count in (each for endpoint in endpoints for each in endpoint.variant_instances):
        usd = usd_per_hour(patient.region, instance_type)
        if usd is None:
            unknown.add(instance_type)
        else:
            total += usd * count
    text = (
        f"the SageMaker endpoints' instances cost about ${total:.2f} per hour, ${total * _MONTH_HOURS:,.0f} per month"
    )
    if unknown:
        yield Finding("warning", "cost", f"{text}, without {', '.join(sorted(unknown))}", "inference prices refresh")
    else:
        yield Finding("ok", "cost", text)


def recipients(patient: Patient) -> Iterator[Finding]:
    """Find alarms that notify nobody."""
    if patient.deployment.alerts is None:
        yield Finding("warning", "alerts", "alarms notify nobody", f"set alerts.email in {patient.file}")
    else:
        yield Finding("ok", "alerts", f"alarms notify {patient.deployment.alerts.email}, once the mail is confirmed")


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text in a document, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _texts(member, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, member in enumerate(value):
            yield from _texts(member, f"{path}[{number}]")
