"""CloudWatch in the emulator: metrics that are aggregated and expire, and the checks that MiniStack omits."""

from local_aws.emulator.alarm_requests import alarm_is_for_metric, check_alarm
from local_aws.emulator.dashboards import check_dashboard, list_dashboards
from local_aws.emulator.metric_data import get_metric_data
from local_aws.emulator.metric_reading import get_metric_statistics, list_metrics
from local_aws.emulator.metric_writing import put_metric_data, record_metric
from local_aws.emulator.ministack import cloudwatch


def register() -> None:
    """Replace MiniStack's metrics, register the operations that it lacks, and check requests that it would take."""
    cloudwatch.replace_operation("PutMetricData", put_metric_data)
    cloudwatch.replace_operation("GetMetricData", get_metric_data)
    cloudwatch.replace_operation("GetMetricStatistics", get_metric_statistics)
    cloudwatch.replace_operation("ListMetrics", list_metrics)
    cloudwatch.replace_recording(record_metric)
    cloudwatch.replace_operation("ListDashboards", list_dashboards)
    cloudwatch.filter_alarms_for_metric(alarm_is_for_metric)
    cloudwatch.check_operation("PutMetricAlarm", check_alarm)
    cloudwatch.check_alarms_of_templates(check_alarm)
    cloudwatch.check_operation("PutDashboard", check_dashboard)
