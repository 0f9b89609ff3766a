"""What a change of templates changes about the bill."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from commands.main import app
from sizing.costs import HOURS_PER_MONTH
from sizing.prices import price
from sizing.template_cost import TemplateCostError, changes, read_templates, standing, table

REGION = "us-east-1"
TYPE = "ml.c5.xlarge"


def template(count: int = 2, kind: str = TYPE, scaled: tuple[int, int] | None = None) -> dict[str, Any]:
    resources: dict[str, Any] = {
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {
                "ProductionVariants": [
                    {"VariantName": "AllTraffic", "InstanceType": kind, "InitialInstanceCount": count}
                ]
            },
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": "prod-churn",
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
            },
        },
    }
    if scaled is not None:
        resources["Target"] = {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "Properties": {
                "ResourceId": "endpoint/prod-churn/variant/AllTraffic",
                "MinCapacity": scaled[0],
                "MaxCapacity": scaled[1],
            },
        }
    return {"Prod-Churn": {"Resources": resources}}


def test_an_instance_more_costs_its_price_for_every_hour_of_a_month() -> None:
    (change,) = changes(template(2), template(3), REGION)
    assert change.usd == pytest.approx(price(REGION, TYPE).usd_per_hour * HOURS_PER_MONTH)
    assert change.usd_at_most == pytest.approx(change.usd)


def test_a_scaled_endpoint_costs_its_least_without_load_and_its_most_scaled_out() -> None:
    (change,) = changes(template(2, scaled=(2, 4)), template(2, scaled=(1, 6)), REGION)
    month = price(REGION, TYPE).usd_per_hour * HOURS_PER_MONTH
    assert change.usd == pytest.approx(-month)
    assert change.usd_at_most == pytest.approx(2 * month)


def test_another_instance_type_costs_the_difference() -> None:
    (change,) = changes(template(1), template(1, "ml.c5.2xlarge"), REGION)
    assert change.usd == pytest.approx(price(REGION, TYPE).usd_per_hour * HOURS_PER_MONTH)


def test_an_endpoint_that_goes_saves_what_it_cost() -> None:
    (change,) = changes(template(2), {}, REGION)
    assert change.after is None and change.usd < 0
    assert "| 2 x ml.c5.xlarge | none |" in table([change], REGION)


def test_what_does_not_change_is_not_told() -> None:
    assert changes(template(2), template(2), REGION) == []
    assert table([], REGION).startswith("No change in instances")


def test_an_instance_without_a_price_is_named() -> None:
    found = changes({}, template(1, "ml.unheard.xlarge"), REGION)
    assert "It has no price for ml.unheard.xlarge, counted as 0." in table(found, REGION)


def test_a_build_fleet_stands_too() -> None:
    fleet = {
        "Type": "AWS::CodeBuild::Fleet",
        "Properties": {"BaseCapacity": 1, "ComputeConfiguration": {"instanceType": "c6i.2xlarge"}},
    }
    (one,) = standing({"Dev": {"Resources": {"Fleet": fleet}}}, REGION).values()
    assert (one.name, one.least, one.instance_type) == ("CodeBuild fleet", 1, "ml.c6i.2xlarge")


def test_dearest_changes_come_first_and_are_summed() -> None:
    after = template(9) | {"Other": json.loads(json.dumps(template(1)["Prod-Churn"]).replace("prod-churn", "prod-a"))}
    found = changes({}, after, REGION)
    assert [change.name for change in found] == ["prod-churn AllTraffic", "prod-a AllTraffic"]
    together = table(found, REGION).splitlines()[-3]
    assert f"**{sum(change.usd for change in found):+,.0f}**" in together


def write(folder: Path, templates: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, content in templates.items():
        (folder / f"{name}.template.json").write_text(json.dumps(content))
    return folder


def test_the_command_prints_the_table_of_two_folders(tmp_path: Path) -> None:
    before, after = write(tmp_path / "before", template(2)), write(tmp_path / "after", template(3))
    done = CliRunner().invoke(app, ["cost-change", str(before), str(after)])
    assert done.exit_code == 0
    assert "| prod-churn AllTraffic | 2 x ml.c5.xlarge | 3 x ml.c5.xlarge | +149 | +149 |" in done.stdout


def test_a_folder_without_templates_is_an_error_with_the_fix(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["cost-change", str(tmp_path), str(tmp_path)])
    assert done.exit_code == 1
    assert "has no templates: give the output folder of scripts/synth" in done.stderr


def test_a_template_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "Bad.template.json").write_text("[]")
    with pytest.raises(TemplateCostError, match=r"Bad.template.json is not a template"):
        read_templates(tmp_path)
