"""Read a neuron_encoder server's Prometheus metrics per NeuronCore, and compute the activity between two readings."""

from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_BUSY = "neuron_encoder_core_busy_seconds_total"
_REQUESTS = "neuron_encoder_requests_total"
_ROWS, _BATCHES = "neuron_encoder_batch_rows_sum", "neuron_encoder_batch_rows_count"
_QUEUED = "neuron_encoder_queue_windows"


@dataclass(frozen=True, slots=True)
class CoreReading:
    """Counters of one core group up to the time of the reading.

    busy_seconds: time spent running batches.
    answered, failed: requests.
    rows, batches: windows run, and the number of batches they were in.
    queued: windows waiting now.
    """

    busy_seconds: float = 0.0
    answered: float = 0.0
    failed: float = 0.0
    rows: float = 0.0
    batches: float = 0.0
    queued: float = 0.0


@dataclass(frozen=True, slots=True)
class CoreActivity:
    """Activity of one core group between two readings.

    utilization: fraction of the time spent running batches, 0 to 1.
    mean_batch: mean number of windows in a batch; 0 without any.
    """

    core: str
    utilization: float
    answered_per_second: float
    failed_per_second: float
    mean_batch: float
    queued: float


class NotMetricsError(ValueError):
    """A text is not the metrics of a neuron_encoder server; the message says what is missing."""


def read_cores(text: str) -> dict[str, CoreReading]:
    """Read every core group, by name, from a `/metrics` response; raises NotMetricsError."""
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
        raise NotMetricsError(f"the response is not in Prometheus text format: {str(error)[:120]}") from error
    cores = {
        core: CoreReading(
            values[_BUSY], values["answered"], values["failed"], values[_ROWS], values[_BATCHES], values[_QUEUED]
        )
        for core, values in sums.items()
        if _BUSY in values
    }
    if not cores:
        raise NotMetricsError(f"metric {_BUSY} is missing: give the /metrics of a neuron_encoder server")
    return dict(sorted(cores.items(), key=lambda item: _order(item[0])))


def activity(before: dict[str, CoreReading], after: dict[str, CoreReading], seconds: float) -> list[CoreActivity]:
    """Return each core group's activity between two readings `seconds` apart; a restarted server counts from 0."""
    activities = []
    for core, now in after.items():
        earlier = before.get(core, CoreReading())
        if now.busy_seconds < earlier.busy_seconds:
            earlier = CoreReading()
        batches = now.batches - earlier.batches
        activities.append(
            CoreActivity(
                core,
                min(1.0, (now.busy_seconds - earlier.busy_seconds) / seconds),
                (now.answered - earlier.answered) / seconds,
                (now.failed - earlier.failed) / seconds,
                (now.rows - earlier.rows) / batches if batches else 0.0,
                now.queued,
            )
        )
    return activities


def _order(core: str) -> tuple[int, str]:
    first = core.partition("-")[0]
    return (int(first), core) if first.isdecimal() else (2**31, core)
