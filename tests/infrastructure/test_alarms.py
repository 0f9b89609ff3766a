"""Who is told what: one message for an endpoint in trouble, and mails about money."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.infrastructure.conftest import Assembly

Synthesize = Callable[..., Assembly]
DEPLOYMENTS = ("dev", "prod", "published")


def members(rule: dict[str, Any]) -> list[str]:
    """Logical ids of the alarms in `(ALARM("arn") OR ALARM("arn"))`, as the CDK joins it."""
    delimiter, parts = rule["Fn::Join"]
    assert delimiter == ""
    texts = [part for part in parts if isinstance(part, str)]
    assert texts[0] == '(ALARM("' and texts[-1] == '"))' and set(texts[1:-1]) <= {'") OR ALARM("'}
    return [part["Fn::GetAtt"][0] for part in parts if not isinstance(part, str)]


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_endpoint_has_one_alarm_over_its_others_that_alone_notifies(
    synthesize: Synthesize, deployment: str
) -> None:
    assembly = synthesize(deployment)
    composites = assembly.resources("AWS::CloudWatch::CompositeAlarm")
    names = [composite["Properties"]["AlarmName"] for composite in composites.values()]
    endpoints = [each["Properties"]["EndpointName"] for each in assembly.resources("AWS::SageMaker::Endpoint").values()]
    assert {f"{name}-any" for name in endpoints} <= set(names) and len(set(names)) == len(names)
    covered = {
        f"{stack}/{member}"
        for path, composite in composites.items()
        for stack in [path.partition("/")[0]]
        for member in members(composite["Properties"]["AlarmRule"])
    }
    alarms = assembly.resources("AWS::CloudWatch::Alarm")
    told = {path for path, alarm in alarms.items() if "arn:aws:sns" in str(alarm) or "Alerts" in str(alarm)}
    assert not told
    scaling = {path for path, alarm in alarms.items() if alarm["Properties"].get("AlarmActions")}
    assert covered == set(alarms) - scaling
    for composite in composites.values():
        (topic,) = composite["Properties"]["AlarmActions"]
        assert "Alerts" in json.dumps(topic)
        assert "docs/runbook.md#any" in composite["Properties"]["AlarmDescription"]


def test_updates_roll_back_by_the_alarms_that_name_the_fault(synthesize: Synthesize) -> None:
    assembly = synthesize("prod")
    composites = {path.partition("/")[2] for path in assembly.resources("AWS::CloudWatch::CompositeAlarm")}
    for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values():
        watched = endpoint["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
        assert not composites & {alarm["AlarmName"]["Ref"] for alarm in watched}


def test_production_mails_about_anomalies_in_what_bears_its_tag(synthesize: Synthesize) -> None:
    prod = synthesize("prod")
    ((path, monitor),) = prod.resources("AWS::CE::AnomalyMonitor").items()
    assert monitor["Properties"]["MonitorType"] == "CUSTOM"
    assert json.loads(monitor["Properties"]["MonitorSpecification"]) == {
        "Tags": {"Key": "environment", "Values": ["prod"]}
    }
    (subscription,) = prod.resources("AWS::CE::AnomalySubscription").values()
    properties = subscription["Properties"]
    assert properties["MonitorArnList"] == [{"Fn::GetAtt": [path.partition("/")[2], "MonitorArn"]}]
    assert properties["Subscribers"] == [{"Address": "ml-platform@example.com", "Type": "EMAIL"}]
    assert json.loads(properties["ThresholdExpression"])["Dimensions"]["Values"] == ["100"]


def test_without_the_setting_nobody_looks_for_anomalies(synthesize: Synthesize) -> None:
    assert not synthesize("dev").resources("AWS::CE::AnomalyMonitor")
