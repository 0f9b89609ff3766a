"""`inference demo`: deploys into the local account, asks, measures, prints the published table, destroys."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load_tests import bert_int8
from load_tests.closed_loop import Measurement, Target, client, measure
from local_aws import cli
from local_aws.account import ACCOUNT_ID, REGION, ROOT
from sizing.prices import price, usd_per_million
from stacks.settings import Deployment, DeploymentError

AMAZON = (
    "The Amazon rainforest (Portuguese: Floresta Amazônica or Amazônia; Spanish: Selva Amazónica, Amazonía or usually "
    "Amazonia; French: Forêt amazonienne; Dutch: Amazoneregenwoud), also known in English as Amazonia or the Amazon "
    "Jungle, is a moist broadleaf forest that covers most of the Amazon basin of South America. This basin encompasses "
    "7,000,000 square kilometres (2,700,000 sq mi), of which 5,500,000 square kilometres (2,100,000 sq mi) are covered "
    "by the rainforest."
)
"""Opening of Wikipedia's article on the Amazon rainforest, CC BY-SA."""
QUESTION = "Which name is also used to describe the Amazon rainforest in English?"


class DemoError(RuntimeError):
    """A step of the demo failed; the message says which, and where its output is."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    target: Target
    model: str
    precision: str
    instance_type: str
    measurement: Measurement


def demo(
    state: cli.State,
    cache: cli.Cache,
    deployment: Annotated[str, typer.Option(help="a file of deployments/")] = "dev",
    seconds: Annotated[float, typer.Option(min=1, help="measured time for each variant")] = 10.0,
    keep: Annotated[bool, typer.Option("--keep", help="leave the deployment and the local account running")] = False,
) -> None:
    """Deploys bert_int8 into the local account and compares FP32 with INT8."""
    started = time.monotonic()
    try:
        settings = Deployment.load(ROOT / "deployments" / f"{deployment}.yaml")
    except DeploymentError as error:
        cli.fail(str(error))
    account = cli.start(state, cache)
    os.environ.update(account.environment())
    logs = Path(account.state) / "logs"
    try:
        _run("bootstrap", ["cdk", "bootstrap", f"aws://{ACCOUNT_ID}/{REGION}", "--app", ""], logs)
        deploy(deployment, logs)
        _ask(settings)
        rows = _measure(settings, seconds)
        _print(rows, _accuracies(settings))
        if not keep:
            _run("destroy", ["cdk", "destroy", "--all", "--force", "--context", f"deployment={deployment}"], logs)
    except KeyboardInterrupt:
        print("interrupted: stopping the local account", file=sys.stderr)
        cli.stop(Path(account.state))
        raise typer.Exit(130) from None
    except DemoError as error:
        cli.fail(f"{error}\nthe account still runs; `inference local logs`, then `inference local down`")
    if keep:
        print(f'kept: eval "$(inference local env)"; the account answers at {account.endpoint_url}', file=sys.stderr)
    else:
        cli.stop(Path(account.state))
    print(f"done in {time.monotonic() - started:.0f} s", file=sys.stderr)


def deploy(deployment: str, logs: Path) -> None:
    """Runs the real `cdk deploy` of every stack; raises DemoError."""
    _run(
        "deploy",
        ["cdk", "deploy", "--all", "--require-approval", "never", "--context", f"deployment={deployment}"],
        logs,
    )


def _run(name: str, command: list[str], logs: Path) -> None:
    print(f"{name}: {' '.join(command)}", file=sys.stderr, flush=True)
    began = time.monotonic()
    log = logs / f"{name}.log"
    with log.open("ab") as output:
        done = subprocess.run(
            [*command, "--no-notices", "--progress", "events"] if name != "bootstrap" else [*command, "--no-notices"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        reasons = [line for line in log.read_text(errors="replace").splitlines() if "FAILED" in line or "❌" in line]
        raise DemoError(f"{name} failed: " + "\n".join(reasons[-4:] or [f"see {log.name}"]))
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _targets(settings: Deployment) -> list[tuple[Target, str, str, str]]:
    assert settings.workloads.bert_int8 is not None
    return [
        (
            Target(settings.endpoint_name("bert_int8", key), name),
            endpoint.model,
            variant.precision,
            variant.instance_type,
        )
        for key, endpoint in settings.workloads.bert_int8.endpoints.items()
        for name, variant in endpoint.enabled_variants.items()
    ]


def _answers(settings: Deployment, model: str) -> bool:
    assert settings.workloads.bert_int8 is not None
    return settings.workloads.bert_int8.models[model].source.kind != "random"


def _ask(settings: Deployment) -> None:
    runtime = client()
    body = json.dumps({"question": QUESTION, "context": AMAZON})
    print(f"\n{QUESTION}")
    for target, model, precision, _ in _targets(settings):
        if _answers(settings, model):
            answer = json.loads(
                runtime.invoke_endpoint(
                    EndpointName=target.endpoint,
                    TargetVariant=target.variant,
                    ContentType="application/json",
                    Body=body,
                )["Body"].read()
            )
            print(
                f"  {target.endpoint}/{target.variant} ({precision}): {answer['answer']}  (score {answer['score']:.2f})"
            )


def _measure(settings: Deployment, seconds: float) -> list[Row]:
    targets = _targets(settings)
    bodies = bert_int8.payloads()
    runtime = client()
    rows: list[Row] = []
    models = list(dict.fromkeys(model for _, model, _, _ in targets))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for model in models:
            group = [entry for entry in targets if entry[1] == model]
            task = progress.add_task(f"measuring {model}", total=2 * seconds)
            found = measure(
                runtime,
                [target for target, *_ in group],
                bodies,
                seconds=seconds,
                on_round=lambda task=task: progress.advance(task),  # type: ignore[misc]
            )
            rows += [Row(target, model, precision, kind, found[target]) for target, _, precision, kind in group]
    return rows


def _accuracies(settings: Deployment) -> Mapping[str, Mapping[str, Any]]:
    """Accuracy per model, from the summary that each build left beside its artifacts."""
    assert settings.workloads.bert_int8 is not None
    stack = f"{settings.environment.capitalize()}-BertInt8"
    outputs = boto3.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]["Outputs"]
    found: dict[str, Mapping[str, Any]] = {}
    for model in settings.workloads.bert_int8.models:
        camel = "".join(part.capitalize() for part in model.split("_"))
        url = next(o["OutputValue"] for o in outputs if o["OutputKey"] == f"{camel}Artifacts")
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        summary = json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}summary.json")["Body"].read())
        if summary["accuracy"] is not None:
            found[model] = summary["accuracy"]
    return found


def machine() -> str:
    """Processor and core count, to stand beside every figure."""
    name = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name}, {os.cpu_count()} cores"


def _print(rows: list[Row], accuracies: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table(title=f"bert_int8, one request at a time. LOCAL: {machine()}; not C6i")
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
    console = Console(width=None if sys.stdout.isatty() else 130)
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
