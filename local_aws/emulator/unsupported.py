"""Machine types that MiniStack would accept and ignore; a template with one is refused, and the type is named."""

from local_aws.emulator.ministack.resources import unregister_resource

MACHINES = (
    "AWS::AutoScaling::AutoScalingGroup",
    "AWS::AutoScaling::ScalingPolicy",
    "AWS::EC2::Instance",
    "AWS::EC2::LaunchTemplate",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
)


def register() -> None:
    """Remove the types, so a template with one fails."""
    for kind in MACHINES:
        unregister_resource(kind)
