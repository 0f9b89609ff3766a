"""How many instances the copies of inference components need."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sizing.instances import instance


@dataclass(frozen=True, slots=True, order=True)
class Compute:
    """What a copy reserves, or an instance has."""

    memory_mib: float
    cpu_cores: float
    accelerators: float

    @classmethod
    def of(cls, specification: dict[str, Any]) -> "Compute":
        """What a copy of an InferenceComponentSpecification reserves."""
        wanted = specification["ComputeResourceRequirements"]
        return cls(
            float(wanted["MinMemoryRequiredInMb"]),
            float(wanted.get("NumberOfCpuCoresRequired", 0)),
            float(wanted.get("NumberOfAcceleratorDevicesRequired", 0)),
        )

    @classmethod
    def on(cls, instance_type: str) -> "Compute":
        """What an instance has; accelerators that are not recorded are as many as anybody wants."""
        found = instance(instance_type)
        there = math.inf if found.accelerators is None else found.accelerators
        return cls(found.memory_gib * 1024, found.vcpus, there)

    def fits(self, room: "Compute") -> bool:
        """Whether there is room for this."""
        return (
            self.memory_mib <= room.memory_mib
            and self.cpu_cores <= room.cpu_cores
            and self.accelerators <= room.accelerators
        )

    def less(self, taken: "Compute") -> "Compute":
        """What is left."""
        return Compute(
            self.memory_mib - taken.memory_mib, self.cpu_cores - taken.cpu_cores, self.accelerators - taken.accelerators
        )


def instances_needed(copies: Iterable[Compute], each: Compute) -> int | None:
    """Instances that hold these copies, the largest placed first; None where one does not fit on any."""
    rooms: list[Compute] = []
    for copy in sorted(copies, reverse=True):
        if not copy.fits(each):
            return None
        for number, room in enumerate(rooms):
            if copy.fits(room):
                rooms[number] = room.less(copy)
                break
        else:
            rooms.append(each.less(copy))
    return len(rooms)
