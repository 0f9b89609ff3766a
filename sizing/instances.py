"""Instance types: their facts by name, and the cheapest that meet a condition."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sizing.instance_families import FAMILIES, Family, Size
from sizing.prices import DEFAULT_REGION, read_prices

_PREFIX = "ml."


class UnknownInstanceTypeError(LookupError):
    """An instance type without facts."""


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance type; name: SageMaker's, such as `ml.c6i.2xlarge`."""

    name: str
    family: Family
    size: Size

    @property
    def vcpus(self) -> int:
        """Number of vCPUs."""
        return self.size.vcpus

    @property
    def memory_gib(self) -> float:
        """Memory of the instance, in GiB."""
        return self.size.memory_gib

    @property
    def memory_bytes(self) -> int:
        """Upper limit on the memory of a container, in bytes."""
        return int(self.memory_gib * 2**30)

    @property
    def accelerators(self) -> int:
        """Number of GPUs or other accelerators."""
        return self.size.accelerators

    @property
    def processor(self) -> Literal["cpu", "gpu"]:
        """Processor that AWS's own images are built for."""
        return "gpu" if self.family.accelerator == "gpu" else "cpu"


def instance(name: str) -> Instance:
    """Return the instance type with SageMaker's name; raises UnknownInstanceTypeError for one without facts."""
    known = family_of(name)
    size = None if known is None else known.sizes.get(name.rpartition(".")[2])
    if not name.startswith(_PREFIX) or known is None or size is None:
        raise UnknownInstanceTypeError(
            f"{name!r} is not an instance type of SageMaker endpoints, or newer than sizing/instance_families.py: add "
            "its facts there"
        )
    return Instance(name, known, size)


def family_of(name: str) -> Family | None:
    """Return the family of a type with SageMaker's or EC2's name; None for a family that SageMaker does not have."""
    return FAMILIES.get(name.removeprefix(_PREFIX).partition(".")[0])


def instances() -> Iterator[Instance]:
    """Yield every instance type."""
    for family in FAMILIES.values():
        for name, size in family.sizes.items():
            yield Instance(f"{_PREFIX}{family.name}.{name}", family, size)


def cheapest_like(of: Instance, suits: Callable[[Instance], bool], *, count: int = 3) -> list[str]:
    """Return the names of the types of the most similar size that suit, cheapest first.

    First come types with as many vCPUs and at least the memory; where these are too few, those with up to twice the
    vCPUs, and then those of any size. Types with accelerators replace only types with some. Of each group, types
    without a price in the table come last, by vCPUs; of several, those with fewer accelerators and less memory first.
    """
    prices = {row.instance_type: row.usd_per_hour for row in read_prices() if row.region == DEFAULT_REGION}

    def rank(each: Instance) -> tuple[bool, float, int, int, float, str]:
        price = prices.get(each.name)
        return (price is None, price or 0, each.vcpus, each.accelerators, each.memory_gib, each.name)

    alike = (each for each in instances() if of.accelerators or not each.accelerators)
    ranked = sorted((each for each in alike if suits(each)), key=rank)
    larger = [each for each in ranked if of.vcpus <= each.vcpus <= 2 * of.vcpus and each.memory_gib >= of.memory_gib]
    same = [each for each in larger if each.vcpus == of.vcpus]
    return list(dict.fromkeys(each.name for each in (*same, *larger, *ranked)))[:count]
