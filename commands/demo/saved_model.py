"""The demo of the kind `saved_model`: an image segmented, and TensorFlow and OpenVINO side by side."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from commands import watch_scaling
from commands.demo.steps import DemoError
from commands.output import console
from load_tests.closed_loop import Measurement, Target, client, invoke, measure
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.saved_model import SavedModelKind
from load_tests.machine import machine
from load_tests.payloads import saved_model
from load_tests.targets import scaling_target
from load_tests.watch_scaling import Load, read_policy
from local_aws.account import REGION, ROOT, LocalAccount
from sizing.prices import price, usd_per_million
from stacks.settings.hosting import ONLY_VARIANT
from stacks.settings.saved_model import SavedModel, SavedModelEndpoint

PICTURES = ROOT / "build" / "demo"


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: an endpoint, and the form of the images that it gets."""

    key: str
    form: saved_model.Form


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demo found out about the endpoints that keep their size.

    ious: mean intersection over union of an endpoint's masks with the true ones.
    """

    workload: DeployedWorkload[SavedModel]
    measured: Mapping[Case, Measurement]
    ious: Mapping[Case, float]

    def endpoint(self, case: Case) -> SavedModelEndpoint:
        """Return the settings of a case's endpoint."""
        return self.workload.settings.endpoints[case.key]

    def fastest(self, server: str, precision: str | None) -> Case | None:
        """Return the case with the most images per second of a server and precision."""
        matching = [
            case
            for case in self.measured
            if (self.endpoint(case).server, self.endpoint(case).precision) == (server, precision)
        ]
        return max(matching, key=lambda case: self.measured[case].queries_per_second, default=None)


def show(workload: DeployedWorkload[SavedModel], seconds: float, account: LocalAccount) -> None:
    """Segment images, measure every endpoint that keeps its size for `seconds`, and scale one that does not."""
    settings, kind = workload.settings, SavedModelKind()
    samples = kind.samples(workload)
    (summary,) = kind.summaries(workload).values()
    # Load would start instances of the others, which take the processor from what is measured.
    endpoints = {key: each for key, each in settings.endpoints.items() if not each.scales}
    targets = {key: Target(workload.endpoint_name(key), ONLY_VARIANT) for key in endpoints}
    cases = [
        Case(key, form)
        for key, endpoint in endpoints.items()
        for form in _forms(endpoint, settings.recipe.png_signature)
    ]
    pictures = PICTURES / workload.name
    ious = {case: _segment(targets[case.key], case, samples, pictures) for case in cases}
    payloads = {case: (targets[case.key], saved_model.requests(samples, case.form)) for case in cases}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=2 * seconds)
        measured = measure(client(), payloads, seconds=seconds, on_round=lambda: progress.advance(task))
    _print(Shown(workload, measured, ious), summary["accuracy"])
    _scale(workload, account, pictures)


def _scale(workload: DeployedWorkload[SavedModel], account: LocalAccount, pictures: Path) -> None:
    """Drive the endpoint that scales to its most instances, and wait until it is back; raises DemoError."""
    try:
        key, target = scaling_target(workload, None)
    except ValueError:
        return
    policy = read_policy(target)
    load = Load(target, SavedModelKind().requests(workload, key), clients=4, pause=0.0)
    scale = watch_scaling.time_scale(account)
    moments = watch_scaling.show(target, policy, load, load_seconds=300, limit_seconds=1800, scale=scale)
    folder = os.path.relpath(watch_scaling.write(target, policy, moments, pictures), ROOT)
    most = max(moments, key=lambda moment: moment.current)
    print(
        f"\n  {target.endpoint}: {most.current} instances after {most.seconds:.0f} s of load, "
        f"{moments[-1].current} again after {moments[-1].seconds:.0f} s; {moments[-1].answered} requests succeeded, "
        f"{moments[-1].failed} failed (alarms and cooldowns {scale:g} times faster than on AWS); see {folder}"
    )
    if not watch_scaling.scaled(policy, moments):
        raise DemoError(f"{target.endpoint} did not scale to {policy.max_capacity} instances and back")


def _forms(endpoint: SavedModelEndpoint, png_signature: bool) -> list[saved_model.Form]:
    if endpoint.server == "openvino":
        return ["png", "npy", "json"]
    return ["png", "json"] if png_signature else ["json"]


def _segment(target: Target, case: Case, samples: Sequence[saved_model.Sample], pictures: Path) -> float:
    """Return the mean IoU of the masks, and leave the first as a picture; raises DemoError for an invalid mask."""
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
            picture = _picture(pictures / f"{case.key}.png", sample, body)
            print(f"  {target.endpoint}: {sample.name} segmented, IoU {found[0]:.3f}; see {picture}")
    return float(np.mean(found))


def _picture(path: Path, sample: saved_model.Sample, response: bytes) -> str:
    """Write image, true mask and response side by side, and return the path within the project."""
    from PIL import Image

    side = sample.pixels.shape[0]
    sheet = Image.new("RGB", (3 * side, side))
    truth = Image.fromarray(np.where(sample.mask, np.uint8(255), np.uint8(0)))
    for place, image in enumerate((Image.fromarray(sample.pixels), truth, Image.open(io.BytesIO(response)))):
        sheet.paste(image.convert("RGB"), (place * side, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "PNG")
    return os.path.relpath(path, ROOT)


def _print(shown: Shown, accuracies: Mapping[str, Any]) -> None:
    table = Table(title=f"{shown.workload.name}, one image at a time. LOCAL: {machine()}; not C6i")
    for column in ("endpoint", "server", "image sent as", "instance priced"):
        table.add_column(column, no_wrap=True)
    for column in ("images/s", "P50 ms", "P99 ms", "$ per million", "IoU here", "IoU of build", "n"):
        table.add_column(column, justify="right")
    for case, measured in shown.measured.items():
        endpoint = shown.endpoint(case)
        rate = measured.queries_per_second
        table.add_row(
            shown.workload.endpoint_name(case.key),
            "fake TensorFlow Serving" if endpoint.server == "tensorflow_serving" else f"OpenVINO {endpoint.precision}",
            case.form,
            endpoint.instance_type,
            f"{rate:.1f}",
            f"{measured.percentile_ms(50):.1f}",
            f"{measured.percentile_ms(99):.1f}",
            f"{usd_per_million(price(REGION, endpoint.instance_type).usd_per_hour, rate):.2f}",
            f"{shown.ious[case]:.3f}",
            f"{accuracies[endpoint.artifact]['artifact']['iou']:.3f}",
            str(len(measured.latencies)),
        )
    wide = console(160)
    wide.print()
    wide.print(table)
    wide.print(
        "fake TensorFlow Serving: TensorFlow under a server of this project instead of SageMaker's image; its figures\n"
        "are not TensorFlow Serving's. $ per million: the instance's hourly price over the locally measured rate of\n"
        "one client, as if it ran this fast"
    )
    tensorflow, int8 = shown.fastest("tensorflow_serving", None), shown.fastest("openvino", "int8")
    if tensorflow is not None and int8 is not None:
        ratio = shown.measured[int8].queries_per_second / shown.measured[tensorflow].queries_per_second
        wide.print(
            f"OpenVINO INT8, images sent as {int8.form}, segments {ratio:.1f} times the images of the fake TensorFlow "
            f"Serving, sent as {tensorflow.form}"
        )
