"""Machine types that MiniStack would accept and ignore; a template with one is refused, and the type is named."""

from ministack.services.cloudformation import provisioners

MACHINES = (
    "AWS::AutoScaling::AutoScalingGroup",
    "AWS::AutoScaling::ScalingPolicy",
    "AWS::EC2::Instance",
    "AWS::EC2::LaunchTemplate",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
)


def register() -> None:
    """Remove the types from MiniStack's table, so a template with one fails."""
    for kind in MACHINES:
        provisioners._RESOURCE_HANDLERS.pop(kind, None)
