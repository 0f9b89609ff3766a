"""What a load test must show to pass."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMS = "pPERCENT<=MS, errors<=PERCENT%, lost<=COUNT or rate>=PERCENT%"


class _Gate(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LatencyGate(_Gate):
    """A percentile of the answered requests, all names together, is at most so many milliseconds."""

    kind: Literal["latency"] = "latency"
    percent: float = Field(gt=0, lt=100)
    limit_ms: float = Field(gt=0)


class ErrorGate(_Gate):
    """Failed requests by all requests, 0 to 1, are at most this share: of every name for itself, and of all."""

    kind: Literal["errors"] = "errors"
    limit: float = Field(ge=0, le=1)


class LostGate(_Gate):
    """Workers that did not report at the end are at most so many."""

    kind: Literal["lost"] = "lost"
    limit: int = Field(ge=0)


class RateGate(_Gate):
    """Requests sent in time by requests scheduled are at least this share; a closed loop has no rate to reach."""

    kind: Literal["rate"] = "rate"
    limit: float = Field(gt=0, le=1)


Gate = Annotated[LatencyGate | ErrorGate | LostGate | RateGate, Field(discriminator="kind")]


class GateError(ValueError):
    """A gate is not as it must be; the message says what to write."""


def parse_gate(text: str) -> LatencyGate | ErrorGate | LostGate | RateGate:
    """A gate from one of FORMS; raises GateError."""
    compact = text.replace(" ", "").lower()
    try:
        if found := re.fullmatch(r"p([\d.]+)<=([\d.]+)(ms)?", compact):
            return LatencyGate(percent=float(found[1]), limit_ms=float(found[2]))
        if found := re.fullmatch(r"errors<=([\d.]+)%", compact):
            return ErrorGate(limit=float(found[1]) / 100)
        if found := re.fullmatch(r"lost<=(\d+)", compact):
            return LostGate(limit=int(found[1]))
        if found := re.fullmatch(r"rate>=([\d.]+)%", compact):
            return RateGate(limit=float(found[1]) / 100)
    except ValueError as error:
        raise GateError(f"gate is {text!r}, whose number is not possible: give {FORMS}") from error
    raise GateError(f"gate is {text!r}: give {FORMS}, as in p99<=200, errors<=0.1%, lost<=0, rate>=99%")


def with_defaults(gates: list[Gate], mode: str) -> tuple[Gate, ...]:
    """The gates given, and for each kind that is not: no more than 0.1 % errors, no lost worker, 99 % of the rate."""
    kinds = {gate.kind for gate in gates}
    defaults: list[Gate] = [ErrorGate(limit=0.001), LostGate(limit=0)]
    if mode == "open":
        defaults.append(RateGate(limit=0.99))
    return (*gates, *(gate for gate in defaults if gate.kind not in kinds))
