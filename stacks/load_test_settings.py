"""Settings of the LoadTestStack: how large its tasks are, what they run on, and in which network."""

from typing import Literal

from pydantic import Field, model_validator

from stacks.frozen import Settings

WithoutSpot = Literal["fail", "on_demand"]
_GIB_PER_VCPUS = {
    0.25: (0.5, 1, 2),
    0.5: range(1, 5),
    1.0: range(2, 9),
    2.0: range(4, 17),
    4.0: range(8, 31),
    8.0: range(16, 61, 4),
    16.0: range(32, 121, 8),
}
"""Task sizes of Fargate ("Task size" in the Amazon ECS developer guide)."""


class TaskVpc(Settings):
    """An existing VPC in which the tasks run, such as a fleet's.

    security_group_ids: must let their members reach each other on TCP 5557, and ECR, CloudWatch Logs, S3 and what is
        loaded. subnet_ids: from which these are reached.
    """

    subnet_ids: tuple[str, ...] = Field(min_length=1, max_length=16)
    security_group_ids: tuple[str, ...] = Field(min_length=1, max_length=5)


class LoadTest(Settings):
    """Load tests on Fargate: a Locust master and its workers, a task each, which stand only while a test runs.

    vcpus: of a task; a worker drives one core. memory_gib: of a task.
    spot: workers run on Fargate Spot, which costs less and may be taken away; the master never does.
    without_spot: what a test does when there is no Spot capacity: "fail", or take tasks at full price.
    max_workers: of one test.
    vpc: an existing one; absent, the stack makes a network that has no way to the internet.
    vpc_cidr: addresses of the network that the stack makes.
    availability_zones: two of that network; absent, the first two of the region that is deployed to.
    """

    vcpus: float = 1
    memory_gib: float = 2
    spot: bool = True
    without_spot: WithoutSpot = "fail"
    max_workers: int = Field(default=60, ge=1, le=500)
    vpc: TaskVpc | None = None
    vpc_cidr: str = Field(default="10.43.0.0/16", pattern=r"^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|2[0-4])$")
    availability_zones: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _possible(self) -> "LoadTest":
        sizes = _GIB_PER_VCPUS.get(self.vcpus)
        if sizes is None:
            raise ValueError(
                f"vcpus is {self.vcpus:g}: Fargate has tasks of {', '.join(f'{each:g}' for each in _GIB_PER_VCPUS)}"
            )
        if self.memory_gib not in sizes:
            raise ValueError(
                f"memory_gib is {self.memory_gib:g} with {self.vcpus:g} vcpus: choose one of "
                f"{', '.join(f'{each:g}' for each in sizes)}"
            )
        if self.vpc is not None and self.model_fields_set & {"vpc_cidr", "availability_zones"}:
            raise ValueError(
                "vpc is set beside vpc_cidr or availability_zones, which are for a network of the stack's own: leave "
                "one out"
            )
        return self
