"""Result: figures expected from the server's known behavior, the measured ones, and whether they are close enough."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.load_tests.measure import (
    ATTEMPTS,
    BEYOND,
    BUSY,
    CAPACITY,
    CLIENT_USERS,
    CLIENTS,
    EVERY,
    SERVICE,
    STALL,
    STALL_RATE,
    STALL_USERS,
    client_is_the_limit,
    predicted_p99_ms,
)
from benchmarks.recorded import Result, Sheet, digits, verdict
from load_tests.result import LoadResult

RATE_TOLERANCE, STALL_TOLERANCE, HIDDEN_SHARE = 0.01, 0.05, 0.1
_NAMES = {
    "boto3": "boto3, one shared client",
    "fast": "fast: geventhttpclient, signed by botocore",
    "http": "the same unsigned",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One figure and its expected value; `met` is None without an expectation."""

    run: str
    figure: str
    found: str
    expected: str
    met: bool | None


@dataclass(frozen=True, kw_only=True)
class GeneratorResult(Result):
    """One run of the benchmark on one machine.

    closed, opened: closed and open loop on the server that stalls.
    rates: open loops at rates that the server can sustain.
    beyond: open loop at a rate that the server cannot sustain.
    clients: every run of each client, of which the last counts.
    """

    stem = "load_tests"
    title = "load_tests against a server of known behavior, local"

    closed: LoadResult
    opened: LoadResult
    rates: tuple[LoadResult, ...]
    beyond: LoadResult
    clients: dict[str, list[LoadResult]]

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every figure."""
        predicted = predicted_p99_ms()
        opened, closed = _p99(self.opened), _p99(self.closed)
        stall = f"{STALL:g} s stall every {EVERY:g} s"
        near = abs(opened - predicted) <= STALL_TOLERANCE * predicted
        return (
            Line(f"open loop, {STALL_RATE:g}/s, {stall}", "P99 ms", digits(opened), f"{predicted:g} +- 5 %", near),
            Line(
                f"closed loop, {STALL_USERS} users, {stall}",
                "P99 ms",
                digits(closed),
                f"hides it: below {HIDDEN_SHARE * predicted:g}",
                closed < HIDDEN_SHARE * predicted,
            ),
            Line(
                f"closed loop, {STALL_USERS} users, {stall}",
                "longest ms",
                digits(self.closed.total.max_ms),
                "",
                None,
            ),
            *(self._rate(result) for result in self.rates),
            Line(
                f"open loop, {BEYOND:g}/s of {CAPACITY:g}/s that it can do",
                "answered a second",
                digits(self.beyond.total.answered_per_second),
                f"{CAPACITY:g} +- 5 %",
                abs(self.beyond.total.answered_per_second / CAPACITY - 1) <= 0.05,
            ),
            Line(
                f"open loop, {BEYOND:g}/s of {CAPACITY:g}/s that it can do",
                "client saturated",
                "yes" if self.beyond.saturation.saturated else "no",
                "yes, and not passed",
                self.beyond.saturation.saturated and not self.beyond.passed,
            ),
        )

    @staticmethod
    def _rate(result: LoadResult) -> Line:
        share = result.reached.share or 0.0
        met = abs(share - 1) <= RATE_TOLERANCE
        return Line(f"open loop, {result.level:g}/s", "sent of the rate", f"{share:.2%}", "100 +- 1 %", met)

    @property
    def met(self) -> bool:
        """Whether everything is as expected, and every client's rate is its own limit rather than the server's."""
        return super().met and all(client_is_the_limit(runs[-1]) for runs in self.clients.values())

    def sheets(self) -> list[Sheet]:
        """Return the expected and the measured figures, and the rates of the clients."""
        client_rows = []
        for client in CLIENTS:
            runs = self.clients[client]
            last = runs[-1]
            client_rows.append(
                (
                    _NAMES[client],
                    digits(last.total.answered_per_second),
                    f"{last.saturation.cpu_mean:.0%}",
                    f"{last.total.error_rate:.2%}",
                    str(len(runs)),
                    verdict(client_is_the_limit(last)),
                )
            )
        return [
            Sheet(
                ("run", "figure", "found", "expected", "verdict"),
                ("found", "expected"),
                [(each.run, each.figure, each.found, each.expected, verdict(each.met)) for each in self.figures],
            ),
            Sheet(
                ("client, one worker", "requests/s", "its core busy", "failed", "runs", "client is the limit"),
                ("requests/s", "its core busy", "failed", "runs"),
                client_rows,
            ),
        ]

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "figures": [asdict(line) for line in self.figures],
            "clients": {
                name: [
                    {
                        "requests_per_second": run.total.answered_per_second,
                        "cpu": run.saturation.cpu_mean,
                        "error_rate": run.total.error_rate,
                        "client_is_the_limit": client_is_the_limit(run),
                    }
                    for run in runs
                ]
                for name, runs in self.clients.items()
            },
        }

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs.",
            f"Server: load_tests.stub, {1000 * SERVICE:g} ms a request, one at a time, on the same machine.",
            f"Expected P99: a tenth of the arrivals finds it stalled and waits up to {STALL:g} s, so that one in a "
            f"hundred waits longer than {predicted_p99_ms():g} ms.",
            f"{self.opened.measured_seconds:.0f} s for each loop, with {self.opened.total.answered} and "
            f"{self.closed.total.answered} requests answered.",
            f"Clients: {CLIENT_USERS} users without pause, a CSV row of about 100 bytes, a server that takes no time "
            f"and has the other core. A rate is the client's limit only where its core is over {BUSY:.0%} busy: a run "
            f"without that is repeated, {ATTEMPTS} runs at the most, and all of them are in the JSON. An endpoint that "
            "shares the machine leaves the client less, and larger bodies cost more to sign.",
        )


def _p99(result: LoadResult) -> float:
    p99 = result.total.percentile(99.0)
    return p99.value_ms if p99 is not None else float("nan")
