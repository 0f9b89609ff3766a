"""Application Auto Scaling, which `local_aws/hosting` implements for SageMaker's scalable dimensions."""

from local_aws.api.declaration import Members, Service

_TARGET = "ServiceNamespace ResourceId ScalableDimension"
_PAGES = "MaxResults NextToken"
_PREDICTIVE = "the local account has TargetTrackingScaling and StepScaling"
_ADJUSTMENT = "only ChangeInCapacity is supported"

APPLICATION_AUTOSCALING = Service(
    "application-autoscaling",
    "Application Auto Scaling",
    (
        "RegisterScalableTarget",
        "DeregisterScalableTarget",
        "DescribeScalableTargets",
        "PutScalingPolicy",
        "DeleteScalingPolicy",
        "DescribeScalingPolicies",
        "DescribeScalingActivities",
        "PutScheduledAction",
        "DeleteScheduledAction",
        "DescribeScheduledActions",
        "TagResource",
        "UntagResource",
        "ListTagsForResource",
    ),
    {
        "RegisterScalableTargetRequest": Members(
            f"{_TARGET} MinCapacity MaxCapacity SuspendedState Tags",
            aws_only={"RoleARN": "SageMaker's targets use a service-linked role, on AWS as well"},
        ),
        "SuspendedState": Members("DynamicScalingInSuspended DynamicScalingOutSuspended ScheduledScalingSuspended"),
        "DeregisterScalableTargetRequest": Members(_TARGET),
        "DescribeScalableTargetsRequest": Members(f"ServiceNamespace ResourceIds ScalableDimension {_PAGES}"),
        "PutScalingPolicyRequest": Members(
            f"PolicyName {_TARGET} PolicyType StepScalingPolicyConfiguration TargetTrackingScalingPolicyConfiguration",
            refused={"PredictiveScalingPolicyConfiguration": _PREDICTIVE},
            values={"PolicyType": {"PredictiveScaling": _PREDICTIVE}},
        ),
        "StepScalingPolicyConfiguration": Members(
            "AdjustmentType StepAdjustments Cooldown",
            refused={"MinAdjustmentMagnitude": "it is only valid for percentages of the capacity"},
            aws_only={"MetricAggregationType": "an alarm's period has one datapoint here"},
            values={"AdjustmentType": {"PercentChangeInCapacity": _ADJUSTMENT, "ExactCapacity": _ADJUSTMENT}},
        ),
        "StepAdjustment": Members("MetricIntervalLowerBound MetricIntervalUpperBound ScalingAdjustment"),
        "TargetTrackingScalingPolicyConfiguration": Members(
            "TargetValue PredefinedMetricSpecification ScaleOutCooldown ScaleInCooldown DisableScaleIn",
            refused={"CustomizedMetricSpecification": "use PredefinedMetricSpecification"},
        ),
        "PredefinedMetricSpecification": Members(
            "PredefinedMetricType", refused={"ResourceLabel": "SageMaker's metrics have no resource label"}
        ),
        "DeleteScalingPolicyRequest": Members(f"PolicyName {_TARGET}"),
        "DescribeScalingPoliciesRequest": Members(f"PolicyNames {_TARGET} {_PAGES}"),
        "DescribeScalingActivitiesRequest": Members(
            f"{_TARGET} {_PAGES} IncludeNotScaledActivities",
            values={"IncludeNotScaledActivities": {"true": "the local account records only what it scaled"}},
        ),
        "PutScheduledActionRequest": Members(
            f"{_TARGET} Schedule Timezone ScheduledActionName StartTime EndTime ScalableTargetAction"
        ),
        "ScalableTargetAction": Members("MinCapacity MaxCapacity"),
        "DeleteScheduledActionRequest": Members(f"{_TARGET} ScheduledActionName"),
        "DescribeScheduledActionsRequest": Members(f"ScheduledActionNames {_TARGET} {_PAGES}"),
        "TagResourceRequest": Members("ResourceARN Tags"),
        "UntagResourceRequest": Members("ResourceARN TagKeys"),
        "ListTagsForResourceRequest": Members("ResourceARN"),
    },
)
