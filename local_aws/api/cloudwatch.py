"""CloudWatch's operations that `local_aws/emulator` implements, or checks before MiniStack answers."""

from local_aws.api.declaration import Members, Service

_ONE_ACCOUNT = "the local account is linked to no other"
_ENTITIES = "the local account has no entities"
_METRIC_MATH = "alarms on metric math are not evaluated; give MetricName"
_DIMENSIONS = Members("Name Value")

CLOUDWATCH = Service(
    "cloudwatch",
    "CloudWatch",
    (
        "PutMetricData",
        "GetMetricData",
        "GetMetricStatistics",
        "ListMetrics",
        "PutMetricAlarm",
        "DescribeAlarmsForMetric",
        "PutDashboard",
        "ListDashboards",
    ),
    {
        "PutMetricDataInput": Members(
            "Namespace MetricData", refused={"EntityMetricData": _ENTITIES, "StrictEntityValidation": _ENTITIES}
        ),
        "MetricDatum": Members(
            "MetricName Dimensions Timestamp Value StatisticValues Values Counts Unit StorageResolution"
        ),
        "StatisticSet": Members("SampleCount Sum Minimum Maximum"),
        "Dimension": _DIMENSIONS,
        "GetMetricDataInput": Members(
            "MetricDataQueries StartTime EndTime NextToken ScanBy MaxDatapoints",
            refused={"LabelOptions": "labels are shown as they are given"},
        ),
        "MetricDataQuery": Members(
            "Id MetricStat Expression Label ReturnData",
            refused={
                "Period": "an expression has the period of the metrics that it names",
                "AccountId": _ONE_ACCOUNT,
            },
        ),
        "MetricStat": Members("Metric Period Stat Unit"),
        "Metric": Members("Namespace MetricName Dimensions"),
        "GetMetricStatisticsInput": Members(
            "Namespace MetricName Dimensions StartTime EndTime Period Statistics ExtendedStatistics Unit"
        ),
        "ListMetricsInput": Members(
            "Namespace MetricName Dimensions NextToken RecentlyActive",
            refused={"IncludeLinkedAccounts": _ONE_ACCOUNT, "OwningAccount": _ONE_ACCOUNT},
        ),
        "DimensionFilter": _DIMENSIONS,
        "PutMetricAlarmInput": Members(
            "AlarmName AlarmDescription ActionsEnabled OKActions AlarmActions InsufficientDataActions MetricName "
            "Namespace Statistic ExtendedStatistic Dimensions Period Unit EvaluationPeriods DatapointsToAlarm "
            "Threshold ComparisonOperator TreatMissingData EvaluateLowSampleCountPercentile Tags",
            refused={
                "Metrics": _METRIC_MATH,
                "ThresholdMetricId": "the local account has no anomaly detection",
                "EvaluationWindow": "alarms are evaluated over whole periods",
                "WarmUpConfiguration": "alarms are evaluated from the start",
                "EvaluationCriteria": "the local account does not evaluate PromQL",
                "EvaluationInterval": "alarms are evaluated once per period",
            },
            values={
                "EvaluateLowSampleCountPercentile": {"ignore": "percentiles are evaluated whatever the sample count"}
            },
        ),
        "Tag": Members("Key Value"),
        "DescribeAlarmsForMetricInput": Members(
            "MetricName Namespace Statistic ExtendedStatistic Dimensions Period Unit"
        ),
        "PutDashboardInput": Members(
            "DashboardName DashboardBody", refused={"Tags": "the local account's dashboards have no tags"}
        ),
        "ListDashboardsInput": Members(
            "DashboardNamePrefix", refused={"NextToken": "the first response lists every dashboard"}
        ),
    },
)
