"""Description of the machine that a result was measured on, without anything that identifies that machine."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from containers.serving.cpu import available_cores, instruction_sets
from containers.serving.memory import memory_limit_bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """Properties of a machine that a reader needs to judge a figure.

    cores, memory_bytes: resources available to this process.
    load_average: load average over the minute before the measurement, in processes.
    """

    processor: str
    cores: int
    instruction_sets: tuple[str, ...]
    memory_bytes: int
    python: str
    load_average: float

    @classmethod
    def read(cls, cpuinfo: Path = Path("/proc/cpuinfo")) -> "Machine":
        """Describe this machine now; Linux only."""
        return cls(
            processor=_model_name(cpuinfo),
            cores=available_cores(),
            instruction_sets=tuple(sorted(instruction_sets(cpuinfo))),
            memory_bytes=memory_limit_bytes(),
            python=platform.python_version(),
            load_average=round(os.getloadavg()[0], 2),
        )

    def describe(self) -> str:
        """Return one line for a table's caption."""
        sets = ", ".join(self.instruction_sets) or "no vector extensions known"
        return (
            f"{self.processor}, {self.cores} cores ({sets}), {self.memory_bytes / 2**30:.0f} GiB, "
            f"Python {self.python}, load average {self.load_average:.2f} before the run"
        )


def _model_name(cpuinfo: Path) -> str:
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
