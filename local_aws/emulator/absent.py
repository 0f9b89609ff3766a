"""Machines, which the emulator would take and do nothing with: a template with them is refused, each type by name."""

from ministack.services.cloudformation import provisioners

MACHINES = (
    "AWS::AutoScaling::AutoScalingGroup",
    "AWS::AutoScaling::ScalingPolicy",
    "AWS::EC2::Instance",
    "AWS::EC2::LaunchTemplate",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
)


def register() -> None:
    """Takes the types out of MiniStack's table, so that none of them ever passes in silence."""
    for kind in MACHINES:
        provisioners._RESOURCE_HANDLERS.pop(kind, None)
