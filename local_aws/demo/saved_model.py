"""The saved_model demo: an image segmented, and TensorFlow and OpenVINO measured side by side."""

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from load_tests import saved_model
from load_tests.closed_loop import Measurement, Target, client, invoke, measure
from load_tests.watch_scaling import Load, read_policy
from local_aws import watch_scaling
from local_aws.account import REGION, ROOT, LocalAccount, default_state
from local_aws.demo.steps import DemoError
from local_aws.deployed import machine, read_object, stack_outputs
from sizing.prices import price, usd_per_million
from stacks.settings import ONLY_VARIANT, Deployment, UnetEndpoint

WORKLOAD = "saved_model"
PICTURES = ROOT / "build" / "demo" / WORKLOAD


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: an endpoint, and the form of the images that it gets."""

    key: str
    form: saved_model.Form


def show(settings: Deployment, seconds: float) -> None:
    """Segments an image, measures every endpoint that keeps its size for `seconds`, and scales one that does not."""
    assert settings.workloads.saved_model is not None
    # Load would start instances of the others, which take the processor from what is measured.
    endpoints = {key: each for key, each in settings.workloads.saved_model.endpoints.items() if each.scaling is None}
    artifacts = stack_outputs(settings, WORKLOAD)["Artifacts"]
    samples = saved_model.read_samples(_read_bytes(f"{artifacts}samples.zip"))
    summary = json.loads(read_object(f"{artifacts}summary.json"))
    targets = {key: Target(settings.endpoint_name(WORKLOAD, key), ONLY_VARIANT) for key in endpoints}
    cases = [
        Case(key, form)
        for key, endpoint in endpoints.items()
        for form in _forms(endpoint, settings.workloads.saved_model.recipe.png_signature)
    ]
    ious = {case: _segment(targets[case.key], case, samples) for case in cases}
    feeds = {case: (targets[case.key], saved_model.requests(samples, case.form)) for case in cases}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring saved_model", total=2 * seconds)
        found = measure(client(), feeds, seconds=seconds, on_round=lambda: progress.advance(task))
    _print(cases, endpoints, targets, found, ious, summary["accuracy"])
    _scale(settings)


def _scale(settings: Deployment) -> None:
    """Drives the endpoint that scales to its most instances, and waits until it is back; raises DemoError."""
    try:
        key, target = watch_scaling.choose(settings, WORKLOAD, None)
    except ValueError:
        return
    policy = read_policy(target)
    load = Load(target, watch_scaling.requests_of(settings, WORKLOAD, key), clients=4, pause=0.0)
    scale = watch_scaling.time_scale(LocalAccount.read(default_state()))
    moments = watch_scaling.show(target, policy, load, load_seconds=300, limit_seconds=1800, scale=scale)
    folder = os.path.relpath(watch_scaling.write(target, policy, moments, PICTURES), ROOT)
    most = max(moments, key=lambda moment: moment.current)
    print(
        f"\n  {target.endpoint}: {most.current} instances after {most.seconds:.0f} s of load, "
        f"{moments[-1].current} again after {moments[-1].seconds:.0f} s; {moments[-1].answered} requests answered, "
        f"{moments[-1].failed} failed (alarms and cooldowns {scale:g} times faster than on AWS); see {folder}"
    )
    if not watch_scaling.scaled(policy, moments):
        raise DemoError(f"{target.endpoint} did not scale to {policy.max_capacity} instances and back")


def _forms(endpoint: UnetEndpoint, png_signature: bool) -> list[saved_model.Form]:
    if endpoint.server == "openvino":
        return ["png", "npy", "json"]
    return ["png", "json"] if png_signature else ["json"]


def _read_bytes(url: str) -> bytes:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()


def _segment(target: Target, case: Case, samples: Sequence[saved_model.Sample]) -> float:
    """Mean IoU of the samples' answers; leaves the first as a picture. Raises DemoError for an answer of no mask."""
    runtime = client()
    found = []
    for sample, request in zip(samples, saved_model.requests(samples, case.form), strict=True):
        body = invoke(runtime, target, request)
        try:
            mask = saved_model.answered_mask(body, case.form)
        except (OSError, ValueError, KeyError) as error:
            raise DemoError(f"{target.endpoint} answered {case.form} with what is no mask: {error}") from error
        if mask.shape != sample.mask.shape:
            raise DemoError(f"{target.endpoint} answered {case.form} with a mask of shape {mask.shape}")
        found.append(saved_model.iou(mask, sample.mask))
        if sample is samples[0] and case.form == "png":
            print(
                f"  {target.endpoint}: {sample.name} segmented, IoU {found[0]:.3f}; see {_picture(case, sample, body)}"
            )
    return float(np.mean(found))


def _picture(case: Case, sample: saved_model.Sample, answer: bytes) -> str:
    """Writes image, truth and answer side by side; returns its path within the project."""
    from PIL import Image

    side = sample.pixels.shape[0]
    sheet = Image.new("RGB", (3 * side, side))
    truth = Image.fromarray(np.where(sample.mask, np.uint8(255), np.uint8(0)))
    for place, image in enumerate((Image.fromarray(sample.pixels), truth, Image.open(io.BytesIO(answer)))):
        sheet.paste(image.convert("RGB"), (place * side, 0))
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{case.key}.png"
    sheet.save(path, "PNG")
    return os.path.relpath(path, ROOT)


def _print(
    cases: Sequence[Case],
    endpoints: Mapping[str, UnetEndpoint],
    targets: Mapping[str, Target],
    found: Mapping[Case, Measurement],
    ious: Mapping[Case, float],
    accuracies: Mapping[str, Any],
) -> None:
    table = Table(title=f"saved_model, one image at a time. LOCAL: {machine()}; not C6i")
    for column in ("endpoint", "server", "image sent as", "instance priced"):
        table.add_column(column, no_wrap=True)
    for column in ("images/s", "P50 ms", "P99 ms", "$ per million", "IoU here", "IoU of build", "n"):
        table.add_column(column, justify="right")
    for case in cases:
        endpoint, measured = endpoints[case.key], found[case]
        rate = measured.queries_per_second
        table.add_row(
            targets[case.key].endpoint,
            "TensorFlow stand-in" if endpoint.server == "tensorflow_serving" else f"OpenVINO {endpoint.precision}",
            case.form,
            endpoint.instance_type,
            f"{rate:.1f}",
            f"{measured.percentile_ms(50):.1f}",
            f"{measured.percentile_ms(99):.1f}",
            f"{usd_per_million(price(REGION, endpoint.instance_type).usd_per_hour, rate):.2f}",
            f"{ious[case]:.3f}",
            f"{accuracies[endpoint.artifact]['artifact']['iou']:.3f}",
            str(len(measured.latencies)),
        )
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    console.print()
    console.print(table)
    console.print(
        "TensorFlow stand-in: TensorFlow under a server of this project in place of SageMaker's TensorFlow Serving\n"
        "image; its figures are not TensorFlow Serving's. $ per million: the instance's hourly price over the locally\n"
        "measured rate of one client, as if it ran this fast"
    )
    _print_ratio(console, cases, endpoints, found)


def _print_ratio(
    console: Console,
    cases: Sequence[Case],
    endpoints: Mapping[str, UnetEndpoint],
    found: Mapping[Case, Measurement],
) -> None:
    def fastest(server: str, precision: str | None) -> Case | None:
        matching = [c for c in cases if (endpoints[c.key].server, endpoints[c.key].precision) == (server, precision)]
        return max(matching, key=lambda case: found[case].queries_per_second, default=None)

    tensorflow, int8 = fastest("tensorflow_serving", None), fastest("openvino", "int8")
    if tensorflow is None or int8 is None:
        return
    ratio = found[int8].queries_per_second / found[tensorflow].queries_per_second
    console.print(
        f"OpenVINO INT8, images sent as {int8.form}, segments {ratio:.1f} times the images of the TensorFlow stand-in, "
        f"sent as {tensorflow.form}"
    )
