"""Instance types in settings: the known ones, and what a container needs of the instances that run it."""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator

from sizing.instances import Instance, UnknownInstanceTypeError, cheapest_like, instance, instances


def _known_instance_type(value: str) -> str:
    try:
        return instance(value).name
    except UnknownInstanceTypeError:
        close = difflib.get_close_matches(value, sorted(each.name for each in instances()), n=4)
        hint = f"did you mean {', '.join(close)}?" if close else "for example ml.c6i.2xlarge"
        raise ValueError(f"{value!r} is not an endpoint instance type; {hint}") from None


InstanceType = Annotated[str, AfterValidator(_known_instance_type)]


class Need(ABC):
    """Something that a container needs of its instances.

    because: the setting that causes the need, as a part of a sentence; "" for every container.
    instead: a change that removes the need, as an alternative to another instance type; "" for none.
    """

    because = ""
    instead = ""

    @abstractmethod
    def met(self, on: Instance) -> bool:
        """Return whether every machine of an instance type has it."""

    @abstractmethod
    def reason(self, on: Instance) -> str:
        """Return why an instance type that lacks it does not do."""


class X86(Need):
    """Every image here, AWS's included, is built for x86."""

    def met(self, on: Instance) -> bool:
        """Return whether the processor is an x86."""
        return on.family.architecture == "x86_64"

    def reason(self, on: Instance) -> str:
        """Name the processor."""
        return f"its processor, {on.family.processors[0].name}, is 64-bit Arm, and the image is built for x86"


class Avx512Vnni(Need):
    """INT8 models on the CPU need AVX-512 VNNI on every machine: nobody can choose which one serves."""

    because = " with precision 'int8'"
    instead = ", or precision: fp32"

    def met(self, on: Instance) -> bool:
        """Return whether every machine has the instructions."""
        return not on.family.without("avx512_vnni")

    def reason(self, on: Instance) -> str:
        """Name the processors without the instructions."""
        lacking = on.family.without("avx512_vnni")
        some = "some of its machines have" if len(lacking) < len(on.family.processors) else "its machines have"
        names = either(each.name for each in lacking)
        return f"{some} {names}, without AVX-512 VNNI, and INT8 is slower than FP32 there"


def check_needs(setting: str, name: str, needs: Sequence[Need]) -> None:
    """Raise ValueError for an instance type that lacks a need, with the cheapest types of its size that have all."""
    chosen = instance(name)
    for need in needs:
        if not need.met(chosen):
            others = cheapest_like(chosen, lambda each: all(other.met(each) for other in needs))
            raise ValueError(
                f"{setting} is {name!r}{need.because}: {need.reason(chosen)}; use {either(others)}{need.instead}"
            )


def either(names: Iterable[str]) -> str:
    """Return names as a list in a sentence, the last after "or"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
