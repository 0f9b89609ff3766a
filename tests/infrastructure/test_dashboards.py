"""Every dashboard that a deployment makes is one that CloudWatch takes, and shows every endpoint."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dashboards.body import MAX_BODY_BYTES, AlarmWidget, DashboardBody, MetricWidget, Source, TextWidget
from stacks.settings.deployment import Deployment
from tests.infrastructure.conftest import Assembly
from tests.infrastructure.test_neo import plain

Synthesize = Callable[..., Assembly]
DEPLOYMENTS = ("dev", "prod", "published")


def bodies(assembly: Assembly) -> dict[str, DashboardBody]:
    """Every dashboard by its name."""
    found = {}
    for resource in assembly.resources("AWS::CloudWatch::Dashboard").values():
        text = plain(resource["Properties"]["DashboardBody"])
        assert len(text.encode()) < MAX_BODY_BYTES
        found[resource["Properties"]["DashboardName"]] = DashboardBody.model_validate_json(text)
    return found


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_each_workload_has_a_dashboard_and_all_have_one_together(synthesize: Synthesize, deployment: str) -> None:
    names = [*Deployment.named(deployment).workloads, "overview"]
    assert set(bodies(synthesize(deployment))) == {f"{deployment}-{name.replace('_', '-')}" for name in names}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_every_endpoint_variant_and_component_is_shown_with_its_alarms(synthesize: Synthesize, deployment: str) -> None:
    assembly = synthesize(deployment)
    shown: set[tuple[str, str]] = set()
    headings, alarms = set(), set()
    for name, body in bodies(assembly).items():
        for widget in body.widgets:
            if isinstance(widget, MetricWidget):
                assert widget.properties.region == "<AWS::Region>"
                for line in widget.properties.series:
                    if isinstance(line, Source):
                        of = dict(line.dimensions)
                        shown.add((of.get("EndpointName", ""), of.get("VariantName", "")))
            elif isinstance(widget, TextWidget):
                headings.add(widget.properties.markdown.splitlines()[0].removeprefix("## "))
            elif isinstance(widget, AlarmWidget) and not name.endswith("-overview"):
                alarms |= {alarm.rpartition(":")[2] for alarm in widget.properties.alarms}
    endpoints = {
        endpoint["Properties"]["EndpointName"] for endpoint in assembly.resources("AWS::SageMaker::Endpoint").values()
    }
    variants = {
        variant["VariantName"]
        for config in assembly.resources("AWS::SageMaker::EndpointConfig").values()
        for variant in config["Properties"]["ProductionVariants"]
    }
    assert headings == endpoints
    assert {endpoint for endpoint, _ in shown} - {""} == endpoints
    assert {variant for _, variant in shown} - {""} == variants
    existing = {alarm["Properties"].get("AlarmName") for alarm in assembly.resources("AWS::CloudWatch::Alarm").values()}
    assert alarms <= existing
    assert alarms


def test_the_overview_refers_to_no_other_stack(synthesize: Synthesize) -> None:
    template: dict[str, Any] = synthesize("dev").templates()["Dev-Monitoring"]
    assert "Fn::ImportValue" not in json.dumps(template)
