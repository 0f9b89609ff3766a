"""Form of the declarations: the state of every member of a structure that a request may hold.

The servers enforce them (`hosting.service_model`), `docs/local-api.md` is generated from them, and a test holds
them against botocore's service models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """What becomes of a member that a request holds."""

    SUPPORTED = "supported"
    REFUSED = "refused"
    AWS_ONLY = "AWS only"


@dataclass(frozen=True, slots=True)
class Members:
    """Members of one structure, each in one state.

    supported: names, separated by spaces. refused: reason by name, which the error quotes. aws_only: by name, why the
    member is accepted although it has no effect here. values: reason by value by name, for supported members with
    values that are refused.
    """

    supported: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    aws_only: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def states(self) -> list[tuple[str, State]]:
        """Every member that is named, with its state; twice, if it is named twice."""
        return [
            *((name, State.SUPPORTED) for name in self.supported.split()),
            *((name, State.REFUSED) for name in self.refused),
            *((name, State.AWS_ONLY) for name in self.aws_only),
        ]


@dataclass(frozen=True, slots=True)
class Service:
    """What the local account implements of a service.

    name: botocore's. title: AWS's. operations: that are implemented. refused: operations that are known and refused,
    with the reason. structures: the members of each structure that a request may hold, by botocore's name of its shape.
    Structures inside refused and AWS-only members need none.
    """

    name: str
    title: str
    operations: tuple[str, ...]
    structures: Mapping[str, Members]
    refused: Mapping[str, str] = field(default_factory=dict)
