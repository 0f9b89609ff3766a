"""`inference watch-scaling`: load on an endpoint, and its instances following it, live and as a plot."""

import csv
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import boto3
import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.live import Live
from rich.table import Table

from load_tests import encoder, neuron_encoder, tabular
from load_tests.closed_loop import Request, Target
from load_tests.watch_scaling import Load, Moment, NoPolicyError, Policy, read_policy, watch
from local_aws.account import TIME_SCALE_VARIABLE, LocalAccount, default_state
from local_aws.cli import fail
from local_aws.deployed import read_object, stack_outputs
from stacks.naming import component_name
from stacks.settings import ONLY_VARIANT, Deployment, DeploymentError, SavedModel

if TYPE_CHECKING:
    from load_tests.saved_model import Form

_ROWS = 12
_BLOCKS = " ▁▂▃▄▅▆▇█"


def watch_scaling(
    workload: Annotated[str, typer.Argument(help="encoder, tabular or saved_model")],
    endpoint: Annotated[str | None, typer.Option(help="the endpoint's key; the first that scales without it")] = None,
    deployment: Annotated[str, typer.Option(help="a name in deployments/, or a path")] = "dev",
    clients: Annotated[int, typer.Option(min=1, help="clients, each one request at a time")] = 4,
    pause: Annotated[float, typer.Option(min=0, help="seconds between a client's requests")] = 0.0,
    load_seconds: Annotated[float, typer.Option(min=1, help="longest time under load")] = 300.0,
    limit_seconds: Annotated[float, typer.Option(min=1, help="longest time altogether")] = 1800.0,
    output: Annotated[Path, typer.Option(help="folder of the plot and the figures")] = Path("build/watch-scaling"),
    state: Annotated[Path | None, typer.Option(help="folder of the local account's state")] = None,
) -> None:
    """Loads an endpoint until it has scaled out, then watches it scale in; exit code 1 when it did not do both.

    Of an endpoint with an inference component it shows the copies, down to none where they may go there.

    Works on the local account that runs, whose alarms and cooldowns pass INFERENCE_LOCAL_TIME_SCALE times faster
    where it was started so, or without one on the AWS account of the environment.
    """
    try:
        settings = Deployment.named(deployment)
        account = LocalAccount.read((state or default_state()).absolute())
        if account is not None:
            os.environ.update(account.environment())
        key, target = choose(settings, workload, endpoint)
        policy = read_policy(target)
        requests = requests_of(settings, workload, key)
        moments = show(
            target, policy, Load(target, requests, clients, pause), load_seconds, limit_seconds, time_scale(account)
        )
    except (DeploymentError, NoPolicyError, ValueError) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"the endpoint cannot be watched: {error}; is the workload deployed?")
    print(f"the figures and the plot are in {write(target, policy, moments, output)}", file=sys.stderr)
    if not scaled(policy, moments):
        fail("the endpoint did not scale out to its most instances and back: see the plot")


def choose(settings: Deployment, workload: str, key: str | None) -> tuple[str, Target]:
    """The key and variant, or component, of that endpoint, or of the first that scales; raises ValueError."""
    found = settings.workloads.enabled.get(workload)
    if found is None:
        raise ValueError(f"workload is {workload!r}: choose from {', '.join(settings.workloads.enabled)}")
    keys = [name for name, endpoint in found.endpoints.items() if endpoint.scaling is not None]
    if key is not None and key not in found.endpoints:
        raise ValueError(f"endpoint is {key!r}: choose from {', '.join(found.endpoints)}")
    if not keys or (key is not None and key not in keys):
        raise ValueError(f"endpoint {key or workload} has no scaling: set it in the deployment")
    chosen = key or keys[0]
    variant = ONLY_VARIANT
    if workload == encoder.WORKLOAD:
        assert settings.workloads.encoder is not None
        variant = next(iter(settings.workloads.encoder.endpoints[chosen].enabled_variants))
    name = settings.endpoint_name(workload, chosen)
    unet = settings.workloads.saved_model if workload == "saved_model" else None
    hosts_component = unet is not None and unet.endpoints[chosen].inference_component is not None
    return chosen, Target(name, variant, component_name(name) if hosts_component else None)


def requests_of(settings: Deployment, workload: str, key: str, *, form: "Form | None" = None) -> list[Request]:
    """The workload's own requests; images in that form, or in the one that this endpoint takes fastest."""
    if workload in (encoder.WORKLOAD, neuron_encoder.WORKLOAD):
        return encoder.requests()
    outputs = stack_outputs(settings, workload)
    if workload == "tabular":
        models = outputs["Models"]
        return tabular.requests(tabular.read_customers(read_object(models.removesuffix("models/") + "requests.csv")))
    # Pillow comes with the extra `unet`.
    from load_tests import saved_model

    bucket, _, prefix = outputs["Artifacts"].removeprefix("s3://").partition("/")
    samples = boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}samples.zip")["Body"].read()
    assert settings.workloads.saved_model is not None
    return saved_model.requests(
        saved_model.read_samples(samples), form or image_form(settings.workloads.saved_model, key)
    )


def image_form(settings: SavedModel, key: str) -> "Form":
    """In which an endpoint takes images fastest."""
    server = settings.endpoints[key].server
    if server == "openvino":
        return "npy"
    return "png" if server == "tensorflow_serving" and settings.recipe.png_signature else "json"


def time_scale(account: LocalAccount | None) -> float:
    """How many times faster than the clock the account's alarms and cooldowns pass; 1 on AWS."""
    if account is None:
        return 1.0
    try:
        environ = Path(f"/proc/{account.supervisor_pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return 1.0
    prefix = f"{TIME_SCALE_VARIABLE}=".encode()
    return next((float(entry.removeprefix(prefix)) for entry in environ if entry.startswith(prefix)), 1.0)


def show(
    target: Target, policy: Policy, load: Load, load_seconds: float, limit_seconds: float, scale: float
) -> list[Moment]:
    """Watches with a live table on stderr."""
    console = Console(stderr=True, markup=False)
    if scale != 1:
        console.print(f"local account: alarms and cooldowns pass {scale:g} times faster than on AWS")
    moments: list[Moment] = []
    with Live(console=console, refresh_per_second=2, transient=not console.is_terminal) as live:

        def on_moment(moment: Moment) -> None:
            moments.append(moment)
            live.update(_table(target, policy, moments))

        return watch(
            target,
            policy,
            load,
            load_seconds=load_seconds,
            limit_seconds=limit_seconds,
            time_scale=scale,
            on_moment=on_moment,
        )


def _table(target: Target, policy: Policy, moments: Sequence[Moment]) -> Table:
    most = max(1, policy.max_capacity)
    line = "".join(_BLOCKS[round(8 * moment.current / most)] for moment in moments[-80:])
    table = Table(title=f"{target.endpoint}/{target.variant}  target {policy.target:g}  instances {line}")
    for column in ("seconds", "load", "metric per instance", "desired", "in service", "answered", "failed"):
        table.add_column(column, justify="right")
    for moment in moments[-_ROWS:]:
        table.add_row(
            f"{moment.seconds:.0f}",
            "on" if moment.loaded else "off",
            f"{moment.per_instance:.0f}",
            str(moment.desired),
            str(moment.current),
            str(moment.answered),
            str(moment.failed),
        )
    return table


def scaled(policy: Policy, moments: Sequence[Moment]) -> bool:
    """Whether there were the most instances at some moment, and the fewest at the end."""
    return max(moment.current for moment in moments) == policy.max_capacity and (
        moments[-1].current == policy.min_capacity
    )


def write(target: Target, policy: Policy, moments: Sequence[Moment], folder: Path) -> Path:
    """Writes the figures as CSV and JSON, and the plot where matplotlib is installed; returns the folder."""
    folder = folder / target.endpoint
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "moments.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, [field.name for field in fields(Moment)])
        rows.writeheader()
        rows.writerows(asdict(moment) for moment in moments)
    (folder / "policy.json").write_text(json.dumps(asdict(policy), indent=2) + "\n")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: install the extra `unet`, which brings matplotlib", file=sys.stderr)
        return folder
    figure = Figure(figsize=(10, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    seconds = [moment.seconds for moment in moments]
    upper.step(seconds, [moment.desired for moment in moments], where="post", linestyle="--", label="desired")
    upper.step(seconds, [moment.current for moment in moments], where="post", label="in service")
    upper.set_ylabel("instances")
    upper.set_ylim(0, policy.max_capacity + 1)
    lower.plot(seconds, [moment.per_instance for moment in moments], label=policy.metric)
    lower.axhline(policy.target, linestyle="--", color="black", label="target")
    lower.set_ylabel("per instance")
    lower.set_xlabel("seconds")
    lower.set_yscale("symlog", linthresh=max(1.0, policy.target))
    for axes in (upper, lower):
        loaded = [moment.seconds for moment in moments if moment.loaded]
        if loaded:
            axes.axvspan(loaded[0], loaded[-1], alpha=0.1, label="under load")
        axes.legend(loc="upper right")
    upper.set_title(f"{target.endpoint}/{target.variant}")
    figure.savefig(folder / "scaling.png", dpi=110)
    return folder
