"""The demo of the kind `encoder`: FP32 and INT8 side by side, next to the published figures."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load_tests.closed_loop import Measurement, Request, Target, client, invoke, measure
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.encoder import EncoderKind
from load_tests.machine import machine
from load_tests.payloads import encoder
from local_aws.account import REGION, LocalAccount
from sizing.prices import price, usd_per_million
from stacks.settings.encoder import Encoder

AMAZON = (
    "The Amazon rainforest (Portuguese: Floresta Amazônica or Amazônia; Spanish: Selva Amazónica, Amazonía or usually "
    "Amazonia; French: Forêt amazonienne; Dutch: Amazoneregenwoud), also known in English as Amazonia or the Amazon "
    "Jungle, is a moist broadleaf forest that covers most of the Amazon basin of South America. This basin encompasses "
    "7,000,000 square kilometres (2,700,000 sq mi), of which 5,500,000 square kilometres (2,100,000 sq mi) are covered "
    "by the rainforest."
)
"""Opening of Wikipedia's article on the Amazon rainforest, CC BY-SA."""
QUESTION = "Which name is also used to describe the Amazon rainforest in English?"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    target: Target
    model: str
    precision: str
    instance_type: str
    measurement: Measurement


def show(workload: DeployedWorkload[Encoder], seconds: float, account: LocalAccount) -> None:
    """Ask every variant that can answer, measure all in turns for `seconds` each, and print the table."""
    del account
    _ask(workload)
    _print(workload.name, _measure(workload, seconds), _accuracies(workload))


def _targets(workload: DeployedWorkload[Encoder]) -> list[tuple[Target, str, str, str]]:
    return [
        (
            Target(workload.endpoint_name(key), name),
            endpoint.model,
            variant.precision,
            variant.instance_type,
        )
        for key, endpoint in workload.settings.endpoints.items()
        for name, variant in endpoint.enabled_variants.items()
    ]


def _answers(workload: DeployedWorkload[Encoder], model: str) -> bool:
    return workload.settings.models[model].source.kind != "random"


def _ask(workload: DeployedWorkload[Encoder]) -> None:
    runtime = client()
    request = Request(
        body=json.dumps({"question": QUESTION, "context": AMAZON}).encode(), content_type="application/json"
    )
    print(f"\n{QUESTION}")
    for target, model, precision, _ in _targets(workload):
        if _answers(workload, model):
            answer = json.loads(invoke(runtime, target, request))
            print(
                f"  {target.endpoint}/{target.variant} ({precision}): {answer['answer']}  (score {answer['score']:.2f})"
            )


def _measure(workload: DeployedWorkload[Encoder], seconds: float) -> list[Row]:
    targets = _targets(workload)
    requests = encoder.requests()
    runtime = client()
    rows: list[Row] = []
    models = list(dict.fromkeys(model for _, model, _, _ in targets))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for model in models:
            group = [entry for entry in targets if entry[1] == model]
            task = progress.add_task(f"measuring {model}", total=2 * seconds)
            found = measure(
                runtime,
                {target: (target, requests) for target, *_ in group},
                seconds=seconds,
                on_round=lambda task=task: progress.advance(task),  # type: ignore[misc]
            )
            rows += [Row(target, model, precision, kind, found[target]) for target, _, precision, kind in group]
    return rows


def _accuracies(workload: DeployedWorkload[Encoder]) -> Mapping[str, Mapping[str, Any]]:
    """Return the accuracy of every model that was scored."""
    summaries = EncoderKind().summaries(workload)
    return {model: summary["accuracy"] for model, summary in summaries.items() if summary["accuracy"] is not None}


def _print(name: str, rows: list[Row], accuracies: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(title=f"{name}, one request at a time. LOCAL: {machine()}; not C6i")
    for column in ("model", "variant", "instance priced"):
        table.add_column(column)
    for column in ("P50 ms", "P90 ms", "queries/s", "$ per million", "F1", "EM", "n"):
        table.add_column(column, justify="right")
    for row in rows:
        accuracy = accuracies.get(row.model, {}).get(row.precision)
        rate = row.measurement.queries_per_second
        cost = usd_per_million(price(REGION, row.instance_type).usd_per_hour, rate)
        table.add_row(
            row.model, row.target.variant, row.instance_type,
            f"{row.measurement.percentile_ms(50):.1f}", f"{row.measurement.percentile_ms(90):.1f}",
            f"{rate:.1f}", f"{cost:.2f}",
            f"{accuracy['f1']:.2f}" if accuracy else "-",
            f"{accuracy['exact_match']:.2f}" if accuracy else "-",
            str(len(row.measurement.latencies)),
        )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 130, markup=False)
    console.print()
    console.print(table)
    for model in dict.fromkeys(row.model for row in rows):
        by_precision = {row.target.variant: row for row in rows if row.model == model}
        if {"FP32", "INT8"} <= set(by_precision):
            fp32, int8 = by_precision["FP32"].measurement, by_precision["INT8"].measurement
            ratio = int8.queries_per_second / fp32.queries_per_second
            kept = f", F1 kept {accuracies[model]['f1_ratio']:.1%}" if model in accuracies else ""
            console.print(f"{model}: INT8 answers {ratio:.2f} times the queries of FP32 on the same engine{kept}")
    console.print(
        "$ per million: the instance's hourly price over the locally measured rate, as if it ran this fast;\n"
        "published on c6i.2xlarge: FP32 70.0/110.8 ms, 13 q/s, $9.0; INT8 35.7/48.9 ms, 25.6 q/s, $4.5; "
        "F1 92.08 -> 91.87"
    )
