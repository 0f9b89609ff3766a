"""Every instance type of SageMaker endpoints has facts, none of them guessed, and a replacement is the cheapest."""

import pytest
from botocore.loaders import Loader

from sizing.instance_families import FAMILIES, Family
from sizing.instances import Instance, UnknownInstanceTypeError, cheapest_like, instance, instances
from sizing.prices import read_prices
from sizing.processors import InstructionSet

ENUMERATIONS = Loader().load_service_model("sagemaker", "service-2")["shapes"]


def x86(on: Instance) -> bool:
    return on.family.architecture == "x86_64"


def vnni(on: Instance) -> bool:
    return not on.family.without("avx512_vnni")


def test_the_table_has_exactly_the_types_of_botocores_enumeration() -> None:
    assert {each.name for each in instances()} == set(ENUMERATIONS["ProductionVariantInstanceType"]["enum"])


def test_every_type_has_vcpus_memory_and_the_devices_of_its_family() -> None:
    for each in instances():
        assert instance(each.name) == each
        assert each.vcpus >= 1
        assert each.memory_gib / each.vcpus >= 1.6, each.name
        assert (each.accelerators > 0) == (each.family.accelerator is not None), each.name


def test_a_family_has_one_architecture_and_its_inference_ami_is_one_of_sagemakers() -> None:
    for family in FAMILIES.values():
        assert len({processor.architecture for processor in family.processors}) == 1
        if family.inference_ami is not None:
            assert family.inference_ami in ENUMERATIONS["ProductionVariantInferenceAmiVersion"]["enum"]


def test_every_priced_type_has_facts() -> None:
    assert all(instance(row.instance_type) for row in read_prices())


@pytest.mark.parametrize(
    ("name", "vcpus", "memory_gib", "accelerators"),
    [
        ("ml.t2.medium", 2, 4, 0),
        ("ml.c4.8xlarge", 36, 60, 0),
        ("ml.c5.18xlarge", 72, 144, 0),
        ("ml.m4.10xlarge", 40, 160, 0),
        ("ml.r8g.medium", 1, 8, 0),
        ("ml.c6i.32xlarge", 128, 256, 0),
        ("ml.p3.16xlarge", 64, 488, 8),
        ("ml.g4dn.12xlarge", 48, 192, 4),
        ("ml.g5.48xlarge", 192, 768, 8),
        ("ml.g6e.16xlarge", 64, 512, 1),
        ("ml.g7.12xlarge", 48, 192, 2),
        ("ml.p5.4xlarge", 16, 256, 1),
        ("ml.inf1.24xlarge", 96, 192, 16),
        ("ml.inf2.24xlarge", 96, 384, 6),
        ("ml.trn1.32xlarge", 128, 512, 16),
        ("ml.p6e-gb200.36xlarge", 144, 960, 4),
    ],
)  # fmt: skip
def test_sizes_are_those_of_ec2(name: str, vcpus: int, memory_gib: float, accelerators: int) -> None:
    found = instance(name)
    assert (found.vcpus, found.memory_gib, found.accelerators) == (vcpus, memory_gib, accelerators)


@pytest.mark.parametrize(
    ("instruction_set", "everywhere", "somewhere", "nowhere"),
    [
        ("avx512_vnni", ("c6i", "m6i", "r6i", "c7i", "g4dn", "p4d", "inf1", "trn1"), ("c5", "m5d", "r5"),
         ("c4", "m4", "t2", "p3", "g5", "g6", "p5", "inf2", "c7g", "m8g")),
        ("avx512_bf16", ("c7i", "m7i", "g7e", "p5en"), (), ("c6i", "g4dn", "c5", "g6")),
        ("amx_int8", ("c7i", "r7i", "p6-b200"), (), ("c6i", "c5", "inf2", "c8g")),
    ],
)  # fmt: skip
def test_processors_decide_which_instructions_every_machine_has(
    instruction_set: InstructionSet, everywhere: list[str], somewhere: list[str], nowhere: list[str]
) -> None:
    def lacking(name: str) -> tuple[int, int]:
        family: Family = FAMILIES[name]
        return len(family.without(instruction_set)), len(family.processors)

    assert all(lacking(name)[0] == 0 for name in everywhere)
    assert all(0 < lacking(name)[0] < lacking(name)[1] for name in somewhere)
    assert all(lacking(name)[0] == lacking(name)[1] for name in nowhere)


def test_graviton_and_grace_are_arm_and_everything_else_is_x86() -> None:
    arm = {name for name, family in FAMILIES.items() if family.architecture == "arm64"}
    assert arm == {
        "c6g", "c6gd", "c6gn", "c7g", "c8g", "m6g", "m6gd", "m8g", "r6g", "r6gd", "r7gd", "r8g", "p6e-gb200",
    }  # fmt: skip


def test_inferentia_has_volumes_and_inf1_alone_lacks_guardrails() -> None:
    assert [FAMILIES[name].local_nvme for name in ("inf1", "inf2", "c6i", "p3")] == [False] * 4
    assert all(FAMILIES[name].local_nvme for name in ("c5d", "g4dn", "g5", "g6e", "p4d", "p5", "trn1", "r7gd"))
    assert [name for name, family in FAMILIES.items() if not family.guardrails] == ["inf1"]


@pytest.mark.parametrize("name", ["ml.c6i.3xlarge", "ml.c9z.large", "c6i.large", "ml.c6i", "", "ml..large"])
def test_a_type_without_facts_is_an_error_and_no_guess(name: str) -> None:
    with pytest.raises(UnknownInstanceTypeError, match="add its facts there"):
        instance(name)


def test_replacements_have_the_same_vcpus_and_at_least_the_memory_and_priced_ones_come_first() -> None:
    assert cheapest_like(instance("ml.c7g.2xlarge"), x86)[:2] == ["ml.c5.2xlarge", "ml.c6i.2xlarge"]
    for name in cheapest_like(instance("ml.r8g.2xlarge"), x86):
        assert (instance(name).vcpus, instance(name).memory_gib) == (8, 64)


def test_a_size_that_hardly_any_type_has_is_replaced_by_the_next_larger_one() -> None:
    assert {instance(name).vcpus for name in cheapest_like(instance("ml.r8g.medium"), x86)} == {2}
    assert cheapest_like(instance("ml.p6-b300.48xlarge"), lambda each: each.family.name == "c6i", count=1) == [
        "ml.c6i.large"
    ]


def test_only_a_type_with_accelerators_is_replaced_by_one() -> None:
    assert not any(instance(name).accelerators for name in cheapest_like(instance("ml.c6g.xlarge"), x86, count=9))
    assert any(instance(name).accelerators for name in cheapest_like(instance("ml.p3.2xlarge"), vnni))
