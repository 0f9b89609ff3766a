"""Compare the cost of two sets of templates: the instances that always run, priced endpoint by endpoint.

It only reads synthesized templates, so a pull request can be priced without credentials. It prices instances, whether
or not they serve requests, at the minimum and at the maximum that scaling allows.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sizing.costs import HOURS_PER_MONTH
from sizing.prices import PriceError, price

Templates = Mapping[str, Mapping[str, Any]]
"""Templates by stack name."""


class TemplateCostError(ValueError):
    """Templates cannot be read; the message names the folder and the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Instances of an endpoint's variant, or of a fleet.

    name: endpoint and variant.
    least, most: number of instances without load, and at most.
    usd_per_hour: price of one instance; None if the price table does not have it.
    """

    name: str
    instance_type: str
    least: int
    most: int
    usd_per_hour: float | None

    def usd(self, count: int) -> float:
        """Return the cost of `count` instances in US dollars per month; an unknown price counts as 0."""
        return count * (self.usd_per_hour or 0.0) * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the comparison; `before` or `after` is None if the resource did not exist then."""

    name: str
    before: Standing | None
    after: Standing | None

    @property
    def usd(self) -> float:
        """Difference in US dollars per month, without load."""
        before, after = (0.0 if each is None else each.usd(each.least) for each in (self.before, self.after))
        return after - before

    @property
    def usd_at_most(self) -> float:
        """Difference in US dollars per month, with everything scaled out."""
        before, after = (0.0 if each is None else each.usd(each.most) for each in (self.before, self.after))
        return after - before


def read_templates(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Read the templates in a `cdk.out`, including those of a pipeline's stages; raises TemplateCostError."""
    paths = sorted(folder.rglob("*.template.json"))
    if not paths:
        raise TemplateCostError(f"{folder} has no templates: give the output folder of scripts/synth or `cdk synth`")
    try:
        return {str(path.relative_to(folder)).removesuffix(".template.json"): _read(path) for path in paths}
    except (OSError, ValueError) as error:
        raise TemplateCostError(f"{folder} cannot be read: {error}; synthesize it again") from error


def _read(path: Path) -> Mapping[str, Any]:
    template = json.loads(path.read_text())
    if not isinstance(template, dict):
        raise ValueError(f"{path.name} is not a template")
    return template


def standing(templates: Templates, region: str) -> dict[str, Standing]:
    """Return everything that has instances, keyed by name; `region` determines the prices."""
    instances = (each for template in templates.values() for each in _of(template.get("Resources", {}), region))
    return {each.name: each for each in instances}


def changes(before: Templates, after: Templates, region: str) -> list[Change]:
    """Return every difference in instances, largest difference in cost first."""
    then, now = standing(before, region), standing(after, region)
    differences = [
        Change(name, then.get(name), now.get(name))
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
    return sorted(differences, key=lambda change: (-abs(change.usd), change.name))


def _of(resources: Mapping[str, Any], region: str) -> Iterator[Standing]:
    targets = {
        each["Properties"]["ResourceId"]: each["Properties"]
        for each in resources.values()
        if each["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"
    }
    for resource in resources.values():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::SageMaker::Endpoint":
            config = resources.get(properties["EndpointConfigName"]["Fn::GetAtt"][0], {}).get("Properties", {})
            variants = [*config.get("ProductionVariants", []), *config.get("ShadowProductionVariants", [])]
            for variant in variants:
                yield _variant(properties["EndpointName"], variant, targets, region)
        elif resource["Type"] == "AWS::CodeBuild::Fleet":
            computing = properties.get("ComputeConfiguration", {})
            # Fleets are billed per minute at about the price of the instance; the table has SageMaker's prices.
            kind, count = f"ml.{computing.get('instanceType', '?')}", int(properties["BaseCapacity"])
            yield _priced("CodeBuild fleet", kind, count, count, region)
        elif resource["Type"] == "AWS::AutoScaling::AutoScalingGroup":
            yield from _group(resources, properties, region)


def _variant(
    endpoint: str, variant: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]], region: str
) -> Standing:
    name = variant["VariantName"]
    count = int(variant.get("InitialInstanceCount", 1))
    managed = variant.get("ManagedInstanceScaling", {})
    target = targets.get(f"endpoint/{endpoint}/variant/{name}", {})
    least = int(target.get("MinCapacity", managed.get("MinInstanceCount", count)))
    most = int(target.get("MaxCapacity", managed.get("MaxInstanceCount", count)))
    return _priced(f"{endpoint} {name}", variant["InstanceType"], least, most, region)


def _group(resources: Mapping[str, Any], group: Mapping[str, Any], region: str) -> Iterator[Standing]:
    launched = group.get("LaunchTemplate", {}).get("LaunchTemplateId", {})
    template = resources.get(launched.get("Ref", ""), {}).get("Properties", {}).get("LaunchTemplateData", {})
    if "InstanceType" in template:
        tags = {each["Key"]: each["Value"] for each in group.get("Tags", [])}
        name = f"{tags.get('Name', 'EC2 fleet')} (EC2)"
        yield _priced(name, template["InstanceType"], int(group["MinSize"]), int(group["MaxSize"]), region)


def _priced(name: str, kind: str, least: int, most: int, region: str) -> Standing:
    try:
        usd = price(region, kind).usd_per_hour
    except PriceError:
        usd = None
    return Standing(name=name, instance_type=kind, least=least, most=most, usd_per_hour=usd)


def table(found: list[Change], region: str) -> str:
    """Render the changes as a Markdown table with totals, and say what these exclude."""
    if not found:
        return "No change in instances: the cost stays the same."
    lines = ["| | before | after | $ per month, without load | $ per month, at most |", "|---|---|---|---|---|"]
    lines += [
        f"| {change.name} | {_shown(change.before)} | {_shown(change.after)} | {change.usd:+,.0f} "
        f"| {change.usd_at_most:+,.0f} |"
        for change in found
    ]
    least, most = (sum(getattr(change, part) for change in found) for part in ("usd", "usd_at_most"))
    lines.append(f"| **total** | | | **{least:+,.0f}** | **{most:+,.0f}** |")
    unknown = sorted(
        {
            each.instance_type
            for change in found
            for each in (change.before, change.after)
            if each is not None and each.usd_per_hour is None
        }
    )
    note = f"Instances only, {HOURS_PER_MONTH:g} hours per month at {region}'s prices in `sizing/prices.csv`."
    if unknown:
        note += f" It has no price for {', '.join(unknown)}, counted as 0."
    return "\n".join([*lines, "", note])


def _shown(each: Standing | None) -> str:
    if each is None:
        return "none"
    count = f"{each.least}" if each.least == each.most else f"{each.least} to {each.most}"
    return f"{count} x {each.instance_type}"
