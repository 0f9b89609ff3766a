"""The table of SageMaker's instance families: sizes, processors, accelerators, storage, and SageMaker's rules for them.

It has every type of botocore 1.43.106's enumeration `ProductionVariantInstanceType`. Sources, as of 2026-12-01:

- vCPUs, memory, accelerators, local NVMe storage, architecture, and the processor's manufacturer: Karpenter's instance
  type reference, which is generated from EC2's DescribeInstanceTypes (aws/karpenter-provider-aws,
  website/content/en/docs/reference/instance-types.md). It lacks G7, G7e, P6-B300 and P6e-GB200: EC2's announcements.
  Inferentia, Trainium, DL1, G6, P3 and most of P4 to P6 were compared with it size by size, the others in part.
- The processor's generation: EC2's product pages (aws.amazon.com/ec2/instance-types), read again for G5, G7, G7e and
  P4d only.
- Guardrails: "Exclusions" of deployment guardrails in the SageMaker developer guide.
- Storage: `VolumeSizeInGB` and `KmsKeyId` in the SageMaker API reference. Where an instance has NVMe storage, SageMaker
  mounts it instead of an EBS volume, its hardware encrypts it, and a KMS key is refused or without effect.
- Inference AMIs: `InferenceAmiVersion` of ProductionVariant in the SageMaker API reference.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from containers.neuron_encoder.instances import INSTANCES as NEURON_INSTANCES
from sizing.processors import (
    BROADWELL,
    CASCADE_LAKE,
    EMERALD_RAPIDS,
    GRACE,
    GRANITE_RAPIDS,
    GRAVITON2,
    GRAVITON3,
    GRAVITON4,
    HASWELL,
    ICE_LAKE,
    MILAN,
    ROME,
    SAPPHIRE_RAPIDS,
    SKYLAKE,
    Architecture,
    InstructionSet,
    Processor,
)

Accelerator = Literal["gpu", "gaudi", "inferentia", "trainium"]

NEURON_AMI = "al2-ami-sagemaker-inference-neuron-2"
"""Inference AMI for Inferentia2 and Trainium. SageMaker's default has Neuron driver 2.10, which current Neuron
containers fail with (awslabs/llm-hosting-container, pull request 156)."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size of a family; accelerators: number of GPUs or other devices."""

    vcpus: int
    memory_gib: float
    accelerators: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """An instance family, such as `c6i`.

    processors: a machine has one of these, and nobody can choose which.
    local_nvme: whether its storage is local NVMe, which its hardware encrypts, rather than an EBS volume.
    guardrails: whether SageMaker has deployment guardrails for it.
    inference_ami: AMI to ask SageMaker for; None where its default suits the images of this project.
    """

    name: str
    processors: tuple[Processor, ...]
    sizes: Mapping[str, Size]
    accelerator: Accelerator | None = None
    local_nvme: bool = False
    guardrails: bool = True
    inference_ami: str | None = None

    @property
    def architecture(self) -> Architecture:
        """Architecture of the processors."""
        return self.processors[0].architecture

    @property
    def instruction_sets(self) -> frozenset[InstructionSet]:
        """Instruction sets of every machine."""
        return frozenset.intersection(*(processor.instruction_sets for processor in self.processors))

    def without(self, instruction_set: InstructionSet) -> tuple[Processor, ...]:
        """Return the processors that lack an instruction set; none if every machine has it."""
        return tuple(each for each in self.processors if instruction_set not in each.instruction_sets)


_VCPUS = {"medium": 1, "large": 2, "xlarge": 4}
_TO_12 = "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge"
_TO_16 = f"{_TO_12} 16xlarge"
_TO_32 = f"{_TO_16} 24xlarge 32xlarge"
_TO_48 = f"{_TO_16} 24xlarge 48xlarge"
_GENERATION_5 = "large xlarge 2xlarge 4xlarge 12xlarge 24xlarge"
_C5 = "large xlarge 2xlarge 4xlarge 9xlarge 18xlarge"
_GPU = "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"
_FOUR_OR_EIGHT = {"12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_GPU_7 = "2xlarge 4xlarge 8xlarge 12xlarge 24xlarge 48xlarge"
_TWO_TO_EIGHT = {"12xlarge": 2, "24xlarge": 4, "48xlarge": 8}


def _regular(gib_per_vcpu: float, sizes: str) -> dict[str, Size]:
    """Return sizes whose memory is proportional to their vCPUs, 4 for each `xlarge`."""
    return {size: Size(vcpus := _vcpus(size), vcpus * gib_per_vcpu) for size in sizes.split()}


def _with_gpus(gib_per_vcpu: float, sizes: str, several: Mapping[str, int]) -> dict[str, Size]:
    """Return regular sizes with GPUs; several: the sizes that have more than one."""
    return {
        name: Size(size.vcpus, size.memory_gib, several.get(name, 1))
        for name, size in _regular(gib_per_vcpu, sizes).items()
    }


def _vcpus(size: str) -> int:
    return _VCPUS[size] if size in _VCPUS else 4 * int(size.removesuffix("xlarge"))


def _neuron(generation: str) -> dict[str, Size]:
    return {
        each.size: Size(each.vcpus, each.memory_gib, each.devices)
        for each in NEURON_INSTANCES.values()
        if each.generation == generation
    }


def _x86() -> Iterable[Family]:
    """Yield the families of x86 processors without accelerators."""
    older = (HASWELL, BROADWELL)
    yield Family(
        name="t2",
        processors=older,
        sizes=_regular(4, "large xlarge 2xlarge") | {"medium": Size(2, 4)},
    )
    yield Family(name="m4", processors=older, sizes=_regular(4, "xlarge 2xlarge 4xlarge 10xlarge 16xlarge"))
    yield Family(
        name="c4",
        processors=(HASWELL,),
        sizes=_regular(1.875, "large xlarge 2xlarge 4xlarge") | {"8xlarge": Size(36, 60)},
    )
    for letter, gib_per_vcpu, sizes in (("c", 2, _C5), ("m", 4, _GENERATION_5), ("r", 8, _GENERATION_5)):
        for storage in ("", "d"):
            yield Family(
                name=f"{letter}5{storage}",
                processors=(SKYLAKE, CASCADE_LAKE),
                sizes=_regular(gib_per_vcpu, sizes),
                local_nvme=storage == "d",
            )
    for name, gib_per_vcpu in (("c6i", 2), ("c6in", 2), ("m6i", 4), ("r6i", 8)):
        yield Family(name=name, processors=(ICE_LAKE,), sizes=_regular(gib_per_vcpu, _TO_32))
    for name, gib_per_vcpu in (("c7i", 2), ("m7i", 4), ("r7i", 8)):
        yield Family(name=name, processors=(SAPPHIRE_RAPIDS,), sizes=_regular(gib_per_vcpu, _TO_48))


def _arm() -> Iterable[Family]:
    """Yield the families of Arm processors without accelerators."""
    for name, processor, gib_per_vcpu, sizes in (
        ("c6g", GRAVITON2, 2, _TO_16),
        ("c6gd", GRAVITON2, 2, _TO_16),
        ("c6gn", GRAVITON2, 2, _TO_16),
        ("m6g", GRAVITON2, 4, _TO_16),
        ("m6gd", GRAVITON2, 4, _TO_16),
        ("r6g", GRAVITON2, 8, _TO_16),
        ("r6gd", GRAVITON2, 8, _TO_16),
        ("c7g", GRAVITON3, 2, _TO_16),
        ("r7gd", GRAVITON3, 8, f"medium {_TO_16}"),
        ("c8g", GRAVITON4, 2, f"medium {_TO_48}"),
        ("m8g", GRAVITON4, 4, f"medium {_TO_48}"),
        ("r8g", GRAVITON4, 8, f"medium {_TO_48}"),
    ):
        yield Family(
            name=name,
            processors=(processor,),
            sizes=_regular(gib_per_vcpu, sizes),
            local_nvme=name.endswith("d"),
        )


def _gpu() -> Iterable[Family]:
    """Yield the families with GPUs.

    The image for GPUs is TensorFlow Serving's with CUDA 12.2, which the default AMIs run; none is asked for.
    """
    yield Family(
        name="p2",
        processors=(BROADWELL,),
        sizes={"xlarge": Size(4, 61, 1), "8xlarge": Size(32, 488, 8), "16xlarge": Size(64, 732, 16)},
        accelerator="gpu",
    )
    yield Family(
        name="p3",
        processors=(BROADWELL,),
        sizes={"2xlarge": Size(8, 61, 1), "8xlarge": Size(32, 244, 4), "16xlarge": Size(64, 488, 8)},
        accelerator="gpu",
    )
    for name, processor, sizes in (
        ("g4dn", CASCADE_LAKE, _with_gpus(4, "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge", {"12xlarge": 4})),
        ("g5", ROME, _with_gpus(4, _GPU, _FOUR_OR_EIGHT)),
        ("g6", MILAN, _with_gpus(4, _GPU, _FOUR_OR_EIGHT)),
        ("g6e", MILAN, _with_gpus(8, _GPU, _FOUR_OR_EIGHT)),
        ("g7", GRANITE_RAPIDS, _with_gpus(4, _GPU_7, _TWO_TO_EIGHT)),
        (
            "g7e",
            EMERALD_RAPIDS,
            _with_gpus(8, "2xlarge 4xlarge 8xlarge", {})
            | {"12xlarge": Size(48, 512, 2), "24xlarge": Size(96, 1024, 4), "48xlarge": Size(192, 2048, 8)},
        ),
        ("p4d", CASCADE_LAKE, {"24xlarge": Size(96, 1152, 8)}),
        ("p4de", CASCADE_LAKE, {"24xlarge": Size(96, 1152, 8)}),
        ("p5", MILAN, {"4xlarge": Size(16, 256, 1), "48xlarge": Size(192, 2048, 8)}),
        ("p5e", MILAN, {"48xlarge": Size(192, 2048, 8)}),
        ("p5en", SAPPHIRE_RAPIDS, {"48xlarge": Size(192, 2048, 8)}),
        ("p6-b200", EMERALD_RAPIDS, {"48xlarge": Size(192, 2048, 8)}),
        ("p6-b300", EMERALD_RAPIDS, {"48xlarge": Size(192, 4096, 8)}),
        ("p6e-gb200", GRACE, {"36xlarge": Size(144, 960, 4)}),
    ):
        yield Family(name=name, processors=(processor,), sizes=sizes, accelerator="gpu", local_nvme=True)


def _other_accelerators() -> Iterable[Family]:
    """Yield the families with Gaudi, Inferentia and Trainium. Inf1 and Inf2 have EBS volumes only."""
    yield Family(
        name="dl1",
        processors=(CASCADE_LAKE,),
        sizes={"24xlarge": Size(96, 768, 8)},
        accelerator="gaudi",
        local_nvme=True,
    )
    yield Family(
        name="inf1",
        processors=(CASCADE_LAKE,),
        sizes=_neuron("inf1"),
        accelerator="inferentia",
        guardrails=False,
    )
    yield Family(
        name="inf2",
        processors=(MILAN,),
        sizes=_neuron("inf2"),
        accelerator="inferentia",
        inference_ami=NEURON_AMI,
    )
    largest = Size(128, 512, 16)
    for name, sizes in (("trn1", {"2xlarge": Size(8, 32, 1), "32xlarge": largest}), ("trn1n", {"32xlarge": largest})):
        yield Family(
            name=name,
            processors=(ICE_LAKE,),
            sizes=sizes,
            accelerator="trainium",
            local_nvme=True,
            inference_ami=NEURON_AMI,
        )
    # The API reference names the Neuron AMI for Inferentia2 and Trainium, not for Trainium2.
    yield Family(
        name="trn2",
        processors=(SAPPHIRE_RAPIDS,),
        sizes={"48xlarge": Size(192, 2048, 16)},
        accelerator="trainium",
        local_nvme=True,
    )


FAMILIES: Mapping[str, Family] = {
    family.name: family for families in (_x86(), _arm(), _gpu(), _other_accelerators()) for family in families
}
