"""Fuzzing of every image's server with generated requests, checked against the contract for responses."""

from collections.abc import Callable
from pathlib import Path

from containers.tabular.features import FEATURES
from tools.fuzz.generate import CSV, JSON, PNG, Surface, dumps, picture, surfaces
from tools.fuzz.hostile import HOSTILE, INVOCATIONS, crowd
from tools.fuzz.run import Probe, Report, Run
from tools.fuzz.servers import CHURN_STATES, SERVERS, running
from tools.fuzz.wire import Request

MALFORMED_SHARE = 0.05


def fuzz_container(
    name: str, folder: Path, *, requests: int, seed: int, report_progress: Callable[[int], object] = lambda _: None
) -> Report:
    """Send this many requests to one container. report_progress: called with the number sent since the last call."""
    base = folder / name
    with running(SERVERS[name], base) as server:
        return Run(
            server, _surface(name, base), _PROBES[name](base), HOSTILE[name](base / "hostile"), crowd(name),
            requests=requests, share=MALFORMED_SHARE, first_seed=seed,
        ).run(report_progress)  # fmt: skip


def _surface(name: str, base: Path) -> Surface:
    folders = [str(path)[1:] for path in sorted((base / "models").glob("*"))]
    return surfaces(folders or ["none"])[name]


def _image(_base: Path) -> Probe:
    return Probe(Request("POST", INVOCATIONS["saved_model"], (("Content-Type", PNG.encode()),), picture("PNG")))


def _row(base: Path) -> Probe:
    row = ",".join(str(number) for number in range(len(FEATURES))).encode()
    loads = tuple(
        Request("POST", "/models", (), dumps({"model_name": state, "url": str(base / "models" / state / "model")}))
        for state in CHURN_STATES
    )
    load = dumps({"model_name": "the last", "url": str(base / "models" / CHURN_STATES[0] / "model")})
    return Probe(
        Request("POST", INVOCATIONS["tabular"], (("Content-Type", CSV.encode()),), row),
        loads,
        (Request("POST", "/models", (), load),),
    )


def _question(_base: Path) -> Probe:
    item = dumps({"question": "w1 w2", "context": "w3 w4 w5 w6"})
    return Probe(Request("POST", INVOCATIONS["encoder"], (("Content-Type", JSON.encode()),), item))


_PROBES: dict[str, Callable[[Path], Probe]] = {
    "encoder": _question,
    "neuron_encoder": _question,
    "saved_model": _image,
    "tabular": _row,
}
"""Valid request to each container, which is repeated among the others, from the server's folder."""
