"""Run the tuner's sweep, then every server and form in turns so machine drift affects all equally."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.peak import peak_gigaoperations
from benchmarks.saved_model import programs
from benchmarks.saved_model.client import ImageClient
from benchmarks.saved_model.engine_alone import EngineAlone, EngineFigures
from benchmarks.saved_model.programs import Build, Environments
from benchmarks.saved_model.tune import ServerBench
from containers.serving.cpu import available_cores
from load_tests.payloads import saved_model
from load_tests.traffic import Traffic, closed_loop, joined
from load_tests.tuning.search import Plan, Sweep, Trial, sweep

TUNED_FORM: saved_model.Form = "png"
"""Form that the tuner sends: TensorFlow's fastest, decoded in its own graph."""
ServerName = Literal["tensorflow", "int8", "int8_parallel"]
FORMS: dict[ServerName, tuple[saved_model.Form, ...]] = {
    "tensorflow": ("png", "json"),
    "int8": ("png", "npy", "json"),
    "int8_parallel": ("png", "npy"),
}
"""int8: the container's default, which shares the cores by load. int8_parallel: always one image on each core."""


@dataclass(frozen=True, slots=True)
class Case:
    """A server and the form of its images and masks."""

    server: ServerName
    form: saved_model.Form


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements of one case: turns of several clients, turns of a single client, and IoU."""

    loaded: tuple[Traffic, ...]
    alone: Traffic
    iou: float

    @property
    def images_per_second(self) -> float:
        """Images per second of the median turn with several clients."""
        return statistics.median(turn.requests_per_second for turn in self.loaded)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything measured in one run.

    engine: OpenVINO INT8 without server and client.
    """

    sweep: Sweep
    clients: int
    cases: dict[Case, Measured]
    engine: EngineFigures
    build_iou: dict[ServerName, float]
    parameters: int


def measure(
    build: Build,
    environments: Environments,
    folder: Path,
    *,
    rounds: int,
    seconds: float,
    on_step: Callable[[str], object],
) -> Comparison:
    """Tune TensorFlow, then compare its best setting with OpenVINO INT8; raises BenchmarkError."""
    samples = saved_model.read_samples(build.samples)
    bases = {name: folder / name for name in ("tensorflow", "openvino_int8")}
    for name, base in bases.items():
        build.extract(name, base)
    cores = available_cores()
    plan = Plan(vcpus=cores, clients=2 * cores, inference_script=True)
    bench = ServerBench(environments.tensorflow, bases["tensorflow"], samples, TUNED_FORM, plan.clients, seconds)
    with bench, ExitStack() as stack:

        def on_trial(trial: Trial) -> None:
            on_step(f"  {trial.candidate.label}: {trial.ratio:.2f} times the defaults, {trial.outcome} {trial.reason}")

        tuned = sweep(plan, bench, on_trial, on_start=lambda _label: None)
        if tuned.best is None:
            raise BenchmarkError("the tuner found no TensorFlow setting that answers every request")
        on_step(f"best of TensorFlow: {tuned.best.candidate.label}")
        bench.serve(tuned.best.candidate)
        assert bench.server is not None
        bench.stop_default()
        running: dict[ServerName, ImageClient] = {"tensorflow": bench.server}
        ways: tuple[tuple[ServerName, int | None], ...] = (("int8", None), ("int8_parallel", cores))
        for name, workers in ways:
            running[name] = stack.enter_context(
                programs.openvino(environments.openvino, bases["openvino_int8"], workers)
            )
        alone = EngineAlone(bases["openvino_int8"] / "model", samples)
        cases = _cases(running, samples, alone, rounds=rounds, seconds=seconds, clients=plan.clients, on_step=on_step)
    accuracy = build.summary["accuracy"]
    int8 = accuracy["openvino_int8"]["artifact"]["iou"]
    return Comparison(
        tuned,
        plan.clients,
        cases,
        alone.figures(peak_gigaoperations(folder)),
        {"tensorflow": accuracy["tensorflow"]["artifact"]["iou"], "int8": int8, "int8_parallel": int8},
        build.summary["training"]["parameters"],
    )


def _cases(
    running: dict[ServerName, ImageClient],
    samples: Sequence[saved_model.Sample],
    alone: EngineAlone,
    *,
    rounds: int,
    seconds: float,
    clients: int,
    on_step: Callable[[str], object],
) -> dict[Case, Measured]:
    cases = [Case(server, form) for server, forms in FORMS.items() for form in forms]
    requests = {case: saved_model.requests(samples, case.form) for case in cases}
    ious = {}
    for case in cases:
        responses = [running[case.server].send(request) for request in requests[case]]
        masks = [saved_model.answered_mask(response, case.form) for response in responses]
        ious[case] = float(np.mean([saved_model.iou(m, s.mask) for m, s in zip(masks, samples, strict=True)]))
    turns: dict[tuple[Case, int], list[Traffic]] = {(case, count): [] for case in cases for count in (clients, 1)}
    for number in range(rounds):
        on_step(f"turn {number + 1} of {rounds}")
        for case, count in turns:
            send = running[case.server].send
            traffic = closed_loop(send, requests[case], clients=count, seconds=seconds if count > 1 else seconds / 2)
            if traffic.failed:
                raise BenchmarkError(f"{traffic.failed} requests of {case.server} as {case.form} failed")
            turns[case, count].append(traffic)
        alone.run(seconds)
    return {case: Measured(tuple(turns[case, clients]), joined(turns[case, 1]), ious[case]) for case in cases}
