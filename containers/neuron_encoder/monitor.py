"""Prometheus metrics from neuron-monitor, if the instance has it.

Source: "Neuron Monitor User Guide" of the AWS Neuron documentation. Each line is a JSON report, with utilization in
percent for each NeuronCore of each runtime, and memory in bytes.
"""

import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PROGRAM = "neuron-monitor"
_INSTALLED = Path("/opt/aws/neuron/bin") / _PROGRAM


class _Utilization(msgspec.Struct, frozen=True):
    neuroncore_utilization: float = 0.0


class _Counters(msgspec.Struct, frozen=True):
    neuroncores_in_use: dict[str, _Utilization] = {}


class _Bytes(msgspec.Struct, frozen=True):
    host: int = 0
    neuron_device: int = 0


class _Memory(msgspec.Struct, frozen=True):
    neuron_runtime_used_bytes: _Bytes = _Bytes()


class _Execution(msgspec.Struct, frozen=True):
    error_summary: dict[str, int] = {}


class _Report(msgspec.Struct, frozen=True):
    neuroncore_counters: _Counters = _Counters()
    memory_used: _Memory = _Memory()
    execution_stats: _Execution = _Execution()


class _Runtime(msgspec.Struct, frozen=True):
    report: _Report = _Report()


class _Line(msgspec.Struct, frozen=True):
    neuron_runtime_data: list[_Runtime] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """The totals of one report over all runtimes.

    utilization: fraction from 0 to 1 by NeuronCore.
    device_bytes, host_bytes: memory used by the runtimes.
    errors: execution errors in the report's period.
    """

    utilization: dict[int, float] = field(default_factory=dict)
    device_bytes: int = 0
    host_bytes: int = 0
    errors: int = 0


def read(line: bytes) -> Reading | None:
    """Return the values of one line, or None for a line that is not a report."""
    try:
        parsed = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    reports = [runtime.report for runtime in parsed.neuron_runtime_data or ()]
    utilization: dict[int, float] = {}
    for report in reports:
        for core, counter in report.neuroncore_counters.neuroncores_in_use.items():
            if core.isdecimal():
                # Every runtime lists only its own cores, so only idle cores are in two reports.
                share = counter.neuroncore_utilization / 100
                utilization[int(core)] = max(share, utilization.get(int(core), 0.0))
    used = [report.memory_used.neuron_runtime_used_bytes for report in reports]
    return Reading(
        utilization,
        sum(each.neuron_device for each in used),
        sum(each.host for each in used),
        sum(sum(report.execution_stats.error_summary.values()) for report in reports),
    )


class NeuronMonitor(Collector):
    """A collector that runs neuron-monitor and keeps its last report; collects nothing if it is not installed."""

    def __init__(self, program: str | None = None) -> None:
        command = program or shutil.which(_PROGRAM) or (str(_INSTALLED) if _INSTALLED.exists() else None)
        self._last: Reading | None = None
        self._process = None
        if command is not None:
            self._process = subprocess.Popen([command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            self._reader = threading.Thread(target=self._follow, args=(self._process,), daemon=True)
            self._reader.start()

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._last = read(line) or self._last
        # The last values of a stopped monitor would look current.
        self._last = None

    def stop(self) -> None:
        """Stop the program."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._reader.join()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the last report."""
        last = self._last
        if last is None:
            return ()
        utilization = GaugeMetricFamily(
            "neuron_monitor_core_utilization_ratio", "Utilization as reported by neuron-monitor.", labels=["core"]
        )
        for core, share in sorted(last.utilization.items()):
            utilization.add_metric([str(core)], share)
        return (
            utilization,
            GaugeMetricFamily("neuron_monitor_device_memory_bytes", "Accelerator memory in use.", last.device_bytes),
            GaugeMetricFamily("neuron_monitor_host_memory_bytes", "Host memory of the runtimes.", last.host_bytes),
            GaugeMetricFamily(
                "neuron_monitor_execution_errors", "Execution errors in the last report's period.", last.errors
            ),
        )
