"""Settings of the LoadTestStack: how large its tasks are, what they run on, and in which network."""

from typing import Literal

from pydantic import Field, model_validator

from stacks.settings.base import Settings

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
    """An existing VPC in which load test tasks run, such as the network of a fleet."""

    subnet_ids: tuple[str, ...] = Field(min_length=1, max_length=16)
    """Subnets from which ECR, CloudWatch Logs, S3 and the loaded servers can be reached."""
    security_group_ids: tuple[str, ...] = Field(min_length=1, max_length=5)
    """Security groups whose members may reach each other on TCP 5557, and ECR, CloudWatch Logs, S3 and the loaded
    servers."""


class LoadTest(Settings):
    """Load tests on Fargate: one task for the Locust master and one for each worker, which exist only during a test."""

    vcpus: float = 1
    """vCPUs of a task. A worker drives one core."""
    memory_gib: float = 2
    """Memory of a task, in GiB."""
    spot: bool = True
    """Run workers on Fargate Spot, which is cheaper and may be interrupted. The master never runs there."""
    without_spot: WithoutSpot = "fail"
    """What a test does without Spot capacity: `fail`, or `on_demand` for tasks at full price."""
    max_workers: int = Field(default=60, ge=1, le=500)
    """Most workers of one test."""
    vpc: TaskVpc | None = None
    """An existing VPC. Without it, the stack creates a network without internet."""
    vpc_cidr: str = Field(default="10.43.0.0/16", pattern=r"^\d{1,3}(\.\d{1,3}){3}/(1[6-9]|2[0-4])$")
    """Address range of the network that the stack creates."""
    availability_zones: tuple[str, str] | None = None
    """Two Availability Zones of that network. Without them, the region's first two."""

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
