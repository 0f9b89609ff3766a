"""Result: figures of both servers, their ratio, the targets, and whether they are met."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.neuron_encoder.measure import SETTLE_SECONDS, TURN_SECONDS, Measured
from benchmarks.neuron_encoder.programs import BATCHES, LENGTH
from benchmarks.recorded import Result, Sheet, digits, verdict
from containers.neuron_encoder.devices.timed import service_seconds

THROUGHPUT_TARGET = 3.0
PUBLISHED_UTILIZATION = "11-16 %"
_COLUMNS = ("figure", "unit", "ours", "published pattern", "ratio", "target", "verdict")


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of both servers; `target` and `met` are None without a target."""

    figure: str
    unit: str
    ours: float
    published: float
    target: str | None = None
    met: bool | None = None

    @property
    def ratio(self) -> float:
        """Our figure divided by the published pattern's."""
        return self.ours / self.published


@dataclass(frozen=True, kw_only=True)
class NeuronResult(Result):
    """One run on one machine."""

    label = "local, timed virtual NeuronCores"
    width = 120

    cores: int
    models: int
    connections: int
    ours: Measured
    published: Measured

    @property
    def figures(self) -> tuple[Line, ...]:
        """Every figure."""
        ours, theirs = self.ours, self.published
        our_rate, their_rate = ours.requests_per_second, theirs.requests_per_second
        our_tail, their_tail = ours.percentile_ms(99), theirs.percentile_ms(99)
        return (
            Line(
                "requests a second", "1/s", our_rate, their_rate, f"at least {THROUGHPUT_TARGET:g} times",
                our_rate >= THROUGHPUT_TARGET * their_rate,
            ),
            Line("latency, P50", "ms", ours.percentile_ms(50), theirs.percentile_ms(50)),
            Line("latency, P99", "ms", our_tail, their_tail, "equal or lower", our_tail <= their_tail),
            Line("virtual cores busy, mean", "%", _mean(ours.utilization), _mean(theirs.utilization)),
            Line("virtual cores busy, least", "%", min(ours.utilization), min(theirs.utilization)),
            Line("server's processor time a request", "ms", ours.server_cpu_ms, theirs.server_cpu_ms),
            Line("client's processor time a request", "ms", ours.client_cpu_ms, theirs.client_cpu_ms),
        )  # fmt: skip

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "virtual_cores": self.cores,
            "models_per_core": self.models,
            "connections": self.connections,
            "published_utilization": PUBLISHED_UTILIZATION,
            "requests": {"ours": self.ours.requests, "published": self.published.requests},
            "seconds": {"ours": self.ours.seconds, "published": self.published.seconds},
            "utilization_percent": {"ours": self.ours.utilization, "published": self.published.utilization},
            "figures": [{**asdict(line), "ratio": line.ratio} for line in self.figures],
        }

    @property
    def title(self) -> str:
        """What is compared, and where."""
        return (
            f"neuron_encoder beside the published pattern, {self.cores} virtual cores, {self.models} models each, local"
        )

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        return (
            f"Machine: {self.machine.describe()}. Both servers and the client share its cores. Local: a figure of "
            "another machine differs, ratios less so.",
            "The cores are timed: each is taken for what AWS publishes of BERT-base on a NeuronCore of inf2 (1.0 ms at "
            "batch 1, 5.97 ms at batch 8, a line between) without using the processor. So what is compared is the "
            "host's side of serving, and no figure is one of Inferentia. At the largest batch these cores answer at "
            f"most {self.cores * BATCHES[-1] / service_seconds(BATCHES[-1]):,.0f} requests a second.",
            "The published pattern, written after aws-samples/best-practices-for-fastapi-on-inferentia: hypercorn "
            "0.13.2, a process for each core, the Hugging Face tokenizer and one model call for each request inside "
            "`async def`, question and answer in the log. In its favour it has NumPy arrays in place of torch tensors. "
            "Ours is asked on the same paths, by POST, one port for each core, and logs no request.",
            f"The same tokenizer, questions of about a hundred tokens, traced at {LENGTH} tokens; ours has batches of "
            f"{', '.join(map(str, BATCHES))}. {self.connections} kept-alive connections, each with one request at a "
            f"time, spread over all cores and models; in turns of {TURN_SECONDS:g} s for each server; "
            f"{SETTLE_SECONDS:g} s before each of which do not count.",
            f"Published with the sample: NeuronCores {PUBLISHED_UTILIZATION} busy, with one client thread for each "
            "core (inf1.6xlarge with its host at 99 %, inf2.xlarge).",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                line.figure,
                line.unit,
                digits(line.ours),
                digits(line.published),
                f"{line.ratio:.2f}",
                line.target or "",
                verdict(line.met),
            )
            for line in self.figures
        ]
        return [Sheet(_COLUMNS, _COLUMNS[2:5], rows)]

    @property
    def stem(self) -> str:
        """Name of the recorded files, which says how many cores and models."""
        return f"local-{self.cores}-cores-{self.models}-models"


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
