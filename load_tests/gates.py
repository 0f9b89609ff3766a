"""Pass/fail criteria of a load test."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMS = "pPERCENT<=MS, errors<=PERCENT%, lost<=COUNT or rate>=PERCENT%"


class _Gate(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LatencyGate(_Gate):
    """Upper limit in milliseconds on a latency percentile of the answered requests, over all request names together."""

    kind: Literal["latency"] = "latency"
    percent: float = Field(gt=0, lt=100)
    limit_ms: float = Field(gt=0)


class ErrorGate(_Gate):
    """Upper limit on failed requests over all requests, 0 to 1; checked for each request name and overall."""

    kind: Literal["errors"] = "errors"
    limit: float = Field(ge=0, le=1)


class LostGate(_Gate):
    """Upper limit on the number of workers that did not report at the end."""

    kind: Literal["lost"] = "lost"
    limit: int = Field(ge=0)


class RateGate(_Gate):
    """Lower limit on requests sent on time over requests scheduled; a closed loop has no scheduled rate."""

    kind: Literal["rate"] = "rate"
    limit: float = Field(gt=0, le=1)


Gate = Annotated[LatencyGate | ErrorGate | LostGate | RateGate, Field(discriminator="kind")]


class GateError(ValueError):
    """A gate is invalid; the message lists the valid forms."""


def parse_gate(text: str) -> LatencyGate | ErrorGate | LostGate | RateGate:
    """Parse a gate in one of FORMS; raises GateError."""
    compact = text.replace(" ", "").lower()
    try:
        if match := re.fullmatch(r"p([\d.]+)<=([\d.]+)(ms)?", compact):
            return LatencyGate(percent=float(match[1]), limit_ms=float(match[2]))
        if match := re.fullmatch(r"errors<=([\d.]+)%", compact):
            return ErrorGate(limit=float(match[1]) / 100)
        if match := re.fullmatch(r"lost<=(\d+)", compact):
            return LostGate(limit=int(match[1]))
        if match := re.fullmatch(r"rate>=([\d.]+)%", compact):
            return RateGate(limit=float(match[1]) / 100)
    except ValueError as error:
        raise GateError(f"gate is {text!r}, and its number is out of range: give {FORMS}") from error
    raise GateError(f"gate is {text!r}: give {FORMS}, such as p99<=200, errors<=0.1%, lost<=0, rate>=99%")


def with_defaults(gates: list[Gate], mode: str) -> tuple[Gate, ...]:
    """Add defaults for the kinds of gate not given: at most 0.1 % errors, no lost worker, at least 99 % of the rate.

    The gate on the rate is for an open loop only.
    """
    kinds = {gate.kind for gate in gates}
    defaults: list[Gate] = [ErrorGate(limit=0.001), LostGate(limit=0)]
    if mode == "open":
        defaults.append(RateGate(limit=0.99))
    return (*gates, *(gate for gate in defaults if gate.kind not in kinds))
