"""What a neuron_encoder server tells Prometheus about its NeuronCores, and what happened between two readings."""

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_BUSY = "neuron_encoder_core_busy_seconds_total"
_REQUESTS = "neuron_encoder_requests_total"
_ROWS, _BATCHES = "neuron_encoder_batch_rows_sum", "neuron_encoder_batch_rows_count"
_QUEUED = "neuron_encoder_queue_windows"


@dataclass(frozen=True, slots=True)
class CoreReading:
    """One core group up to a moment.

    busy_seconds: that it ran batches. answered, failed: requests. rows, batches: windows that it ran, and in how many
    batches. queued: windows that wait now.
    """

    busy_seconds: float = 0.0
    answered: float = 0.0
    failed: float = 0.0
    rows: float = 0.0
    batches: float = 0.0
    queued: float = 0.0


@dataclass(frozen=True, slots=True)
class CoreActivity:
    """One core group between two readings.

    utilization: share of the time that it ran batches, 0 to 1. mean_batch: windows in a batch; 0 without any.
    """

    core: str
    utilization: float
    answered_per_second: float
    failed_per_second: float
    mean_batch: float
    queued: float


class NotMetricsError(ValueError):
    """A text is not what a neuron_encoder server tells Prometheus; the message says what is missing."""


def read_cores(text: str) -> dict[str, CoreReading]:
    """Every core group of a `/metrics` answer by its name; raises NotMetricsError."""
    sums: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                core = sample.labels.get("core")
                if core is None:
                    continue
                name = sample.name
                if name == _REQUESTS:
                    name = "answered" if sample.labels.get("status") == "200" else "failed"
                sums[core][name] += sample.value
    except ValueError as error:
        raise NotMetricsError(f"the answer is not Prometheus' text: {str(error)[:120]}") from error
    found = {
        core: CoreReading(
            values[_BUSY], values["answered"], values["failed"], values[_ROWS], values[_BATCHES], values[_QUEUED]
        )
        for core, values in sums.items()
        if _BUSY in values
    }
    if not found:
        raise NotMetricsError(f"no {_BUSY} is among the metrics: give the /metrics of a neuron_encoder server")
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def activity(before: dict[str, CoreReading], after: dict[str, CoreReading], seconds: float) -> list[CoreActivity]:
    """What each core group did between two readings that lie so far apart; a server that began anew counts from 0."""
    made = []
    for core, now in after.items():
        earlier = before.get(core, CoreReading())
        if now.busy_seconds < earlier.busy_seconds:
            earlier = CoreReading()
        batches = now.batches - earlier.batches
        made.append(
            CoreActivity(
                core,
                min(1.0, (now.busy_seconds - earlier.busy_seconds) / seconds),
                (now.answered - earlier.answered) / seconds,
                (now.failed - earlier.failed) / seconds,
                (now.rows - earlier.rows) / batches if batches else 0.0,
                now.queued,
            )
        )
    return made


def _order(core: str) -> tuple[int, str]:
    first = core.partition("-")[0]
    return (int(first), core) if first.isdecimal() else (2**31, core)
