"""Result: latency with and without verification, and whether the added latency is within the target."""

import statistics
from dataclasses import dataclass
from typing import Any

from benchmarks.recorded import Result, Sheet, verdict

ADDED_MS = 0.3
"""Limit on the latency in milliseconds that verification adds to a request's P50."""
_COLUMNS = ("request", "P50 ms, not verified", "P50 ms, verified", "added ms", "ratio", "n", "target", "verdict")


@dataclass(frozen=True, slots=True)
class Line:
    """Latencies of one kind of request, in milliseconds, with and without verification.

    judged: whether the target is for this kind.
    """

    request: str
    plain: tuple[float, ...]
    verified: tuple[float, ...]
    judged: bool

    @property
    def p50(self) -> tuple[float, float]:
        """Medians in milliseconds, not verified and verified."""
        return statistics.median(self.plain), statistics.median(self.verified)

    @property
    def added(self) -> float:
        """Latency that verification adds to the P50, in milliseconds."""
        plain, verified = self.p50
        return verified - plain

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        return self.added < ADDED_MS if self.judged else None


@dataclass(frozen=True, kw_only=True)
class VerificationResult(Result):
    """One run on one machine."""

    title = "Verification of requests to the local account, local"

    measured: tuple[Line, ...]

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every kind of request."""
        return self.measured

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "figures": [
                {
                    "figure": line.request,
                    "p50_ms_plain": round(line.p50[0], 4),
                    "p50_ms_verified": round(line.p50[1], 4),
                    "added_ms": round(line.added, 4),
                    "n": len(line.plain),
                    "met": line.met,
                }
                for line in self.figures
            ],
        }

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs.",
            "Two processes serve the same ASGI application with uvicorn, as hosting is served, one of them behind the "
            "layer that verifies requests. One client sends each signed request to both in turn, over a connection "
            "kept open; signing is done before and does not count.",
            "Verification hashes the whole payload, so its cost grows with the size; the target is for 1 KiB.",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                line.request,
                f"{line.p50[0]:.3f}",
                f"{line.p50[1]:.3f}",
                f"{line.added:.3f}",
                f"{line.p50[1] / line.p50[0]:.2f}",
                str(len(line.plain)),
                f"less than {ADDED_MS:g} added" if line.judged else "",
                verdict(line.met),
            )
            for line in self.figures
        ]
        return [Sheet(_COLUMNS, _COLUMNS[1:6], rows)]
