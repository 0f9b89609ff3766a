"""What the builds say of their models' accuracy, from the summaries beside the artifacts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.deployed import read_object, stack_outputs
from local_aws.report.model import Build, Quality
from stacks.naming import camel
from stacks.settings import Deployment

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Built:
    """The summaries of a workload's builds, by model; a workload with one build has it under ""."""

    workload: str
    summaries: Mapping[str, Summary]


def read_builds(settings: Deployment, workload: str) -> Built:
    """From the deployed stack's outputs; errors of the client library pass through."""
    outputs = stack_outputs(settings, workload)
    if workload == "tabular":
        return Built(workload, {"": _read(outputs["Models"].removesuffix("models/"))})
    if workload == "saved_model":
        return Built(workload, {"": _read(outputs["Artifacts"])})
    found = settings.workloads.encoder if workload == "encoder" else settings.workloads.neuron_encoder
    assert found is not None
    return Built(workload, {model: _read(outputs[f"{camel(model)}Artifacts"]) for model in found.models})


def _read(prefix: str) -> Summary:
    summary: Summary = json.loads(read_object(f"{prefix}summary.json"))
    return summary


def qualities(built: Built, model: str) -> dict[str, Quality]:
    """Scores of a build's artifacts by their names: precisions, archives, targets, or "" where there is one."""
    summary = built.summaries[model]
    match built.workload:
        case "encoder":
            return _f1(summary)
        case "saved_model":
            return {name: _iou(scores) for name, scores in summary["accuracy"].items()}
        case "tabular":
            test = summary["accuracy"]["test"]
            return {
                "": Quality(
                    metric="AUC", value=test["auc"], reference=None, kept=None, samples=test["rows"], passed=True
                )
            }
        case _:
            parity = summary["parity"]
            return {
                "": Quality(
                    metric="largest difference of a logit",
                    value=parity["largest"] or 0.0,
                    reference=None,
                    kept=None,
                    samples=None,
                    passed=not parity["checked"] or parity["largest"] <= parity["tolerance"],
                )
            }


def _f1(summary: Summary) -> dict[str, Quality]:
    accuracy = summary["accuracy"]
    if accuracy is None:
        return {}
    reference = accuracy["fp32"]["f1"]
    return {
        precision: Quality(
            metric="F1",
            value=accuracy[precision]["f1"],
            reference=reference,
            kept=accuracy[precision]["f1"] / reference,
            samples=accuracy["questions"],
            passed=True,
        )
        for precision in ("fp32", "int8")
    }


def _iou(scores: Mapping[str, Any]) -> Quality:
    return Quality(
        metric="IoU",
        value=scores["artifact"]["iou"],
        reference=scores["fp32"]["iou"],
        kept=scores["iou_ratio"],
        samples=scores["artifact"]["images"],
        passed=True,
    )


def described(built: Built) -> list[Build]:
    """One line for each build."""
    return [
        Build(
            workload=built.workload,
            name=model or built.workload,
            source=str(summary["source"]),
            engine=str(summary.get("engine") or ", ".join(f"{k} {v}" for k, v in summary.get("versions", {}).items())),
            scores=", ".join(
                f"{f'{name} ' if name else ''}{quality.metric} {quality.value:.4g}"
                + ("" if quality.samples is None else f" (n {quality.samples})")
                for name, quality in qualities(built, model).items()
            )
            or "not scored: random weights, for latency only",
        )
        for model, summary in built.summaries.items()
    ]
