"""Number of instances that the copies of inference components need."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sizing.instances import instance


@dataclass(frozen=True, slots=True, order=True)
class Compute:
    """Resources that a copy reserves, or that an instance has."""

    memory_mib: float
    cpu_cores: float
    accelerators: float

    @classmethod
    def of(cls, specification: dict[str, Any]) -> "Compute":
        """Return the resources that one copy of an InferenceComponentSpecification reserves."""
        wanted = specification["ComputeResourceRequirements"]
        return cls(
            float(wanted["MinMemoryRequiredInMb"]),
            float(wanted.get("NumberOfCpuCoresRequired", 0)),
            float(wanted.get("NumberOfAcceleratorDevicesRequired", 0)),
        )

    @classmethod
    def on(cls, instance_type: str) -> "Compute":
        """Return an instance's resources."""
        facts = instance(instance_type)
        return cls(facts.memory_gib * 1024, facts.vcpus, facts.accelerators)

    def fits(self, room: "Compute") -> bool:
        """Return whether `room` is large enough for this."""
        return (
            self.memory_mib <= room.memory_mib
            and self.cpu_cores <= room.cpu_cores
            and self.accelerators <= room.accelerators
        )

    def less(self, taken: "Compute") -> "Compute":
        """Return the resources left after `taken`."""
        return Compute(
            self.memory_mib - taken.memory_mib, self.cpu_cores - taken.cpu_cores, self.accelerators - taken.accelerators
        )


def instances_needed(copies: Iterable[Compute], each: Compute) -> int | None:
    """Return the instances that hold these copies, placed largest first, or None if one copy fits on no instance."""
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
