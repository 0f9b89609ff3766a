"""What the emulator would take and do nothing with: machines. A stack that wants them fails, and says of which type."""

from typing import Any, NoReturn

from ministack.services.cloudformation import provisioners

Properties = dict[str, Any]
MACHINES = (
    "AWS::AutoScaling::AutoScalingGroup",
    "AWS::AutoScaling::ScalingPolicy",
    "AWS::EC2::Instance",
    "AWS::EC2::LaunchTemplate",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
)


def _refuse(kind: str) -> Any:
    def create(logical_id: str, properties: Properties, stack: str) -> NoReturn:
        del properties
        raise RuntimeError(
            f"{kind} ({logical_id} of {stack}): the local account has no EC2 machines, and nothing would serve; "
            "deploy hosting: ec2 to AWS, or choose hosting: sagemaker here"
        )

    return create


def _delete(physical_id: str, properties: Properties) -> None:
    """Nothing was made."""
    del physical_id, properties


def register() -> None:
    """Takes the types' handlers away from MiniStack."""
    for kind in MACHINES:
        provisioners._RESOURCE_HANDLERS[kind] = {"create": _refuse(kind), "delete": _delete}
