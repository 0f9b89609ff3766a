"""Tables of what the local account does with every operation and every member of a request."""

from collections.abc import Iterator, Mapping

from botocore.loaders import Loader

from local_aws.api.declaration import Members, Service
from local_aws.api.services import EMULATED, SERVICES, UNVALIDATED


def members() -> str:
    """Return a section per declared service: its operations, and the state of every member of their inputs."""
    return "\n\n".join(section(service) for service in SERVICES)


def section(service: Service) -> str:
    """Return a service's section."""
    model = Loader().load_service_model(service.name, "service-2")
    inputs = {
        model["operations"][operation]["input"]["shape"]: operation
        for operation in service.operations
        if "input" in model["operations"][operation]
    }
    lines = [f"### {service.title}", ""]
    if refused := service.refused:
        lines += [*(f"`{name}` is refused: {reason}." for name, reason in refused.items()), ""]
    lines += ["| request or structure | supported | refused | AWS only |", "|---|---|---|---|"]
    rows = sorted(service.structures.items(), key=lambda row: (row[0] not in inputs, inputs.get(row[0], row[0])))
    lines += [
        f"| {_titled(inputs.get(name), name)} | {_names(each.supported.split())} | {_refused(each)} | "
        f"{_reasons(each.aws_only)} |"
        for name, each in rows
    ]
    return "\n".join(lines)


def _titled(operation: str | None, structure: str) -> str:
    return f"**{operation}**" if operation else f"`{structure}`"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _reasons(reasons: Mapping[str, str]) -> str:
    """Return names and their reasons; names with the same reason come together."""
    together: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        together.setdefault(reason, []).append(name)
    return "; ".join(f"{_names(names)} ({reason})" for reason, names in together.items())


def _refused(each: Members) -> str:
    values = {
        f"{member}` `{value}": reason for member, refused in each.values.items() for value, reason in refused.items()
    }
    return _reasons({**each.refused, **values})


def operations() -> str:
    """Return the operations that the emulator answers, per service, and the number of those that it refuses."""
    lines = ["| service | answered | refused by name |", "|---|---|---|"]
    return "\n".join([*lines, *_rows()])


def _rows() -> Iterator[str]:
    for name, answered in EMULATED.items():
        known = Loader().load_service_model(name, "service-2")["operations"]
        shown = f"all {len(known)}" if len(answered) == len(known) else _names(list(answered))
        yield f"| `{name}` | {shown} | {len(known) - len(answered) or 'none'} |"
    for name, reason in UNVALIDATED.items():
        yield f"| `{name}` | {reason} | |"
