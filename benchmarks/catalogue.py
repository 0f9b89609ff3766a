"""Catalog of the benchmarks: each one's command, rival and headline, read from its recorded result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]
Bars = Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One command and its result.

    result: path of the JSON file below `benchmarks/`, without its suffix.
    question: question that the benchmark answers.
    slips: the rivals to compare with.
    headline: returns the answer in one line.
    bars: returns the values of the plot; None if a plot would show nothing.
    axis: label of the plot's axis.
    """

    title: str
    command: str
    result: str
    question: str
    slips: str
    headline: Callable[[Summary], str]
    bars: Callable[[Summary], Bars] | None = None
    axis: str = ""

    @property
    def picture(self) -> str:
        """Path of the plot below `benchmarks/`."""
        return f"{self.result}.svg"


def _figure(summary: Summary, begins: str, key: str = "figures") -> Summary:
    figure: Summary = next(each for each in summary[key] if str(each["figure"]).startswith(begins))
    return figure


def _engine(summary: Summary) -> str:
    values = {name: _figure(summary, begins, "ratios")["value"] for name, begins in _ENGINE_RATIOS.items()}
    return (
        f"INT8 is {values['int8']:.1f} times as fast as the best FP32 engine at the same lengths, no padding alone "
        f"{values['lengths']:.1f} times, both together {values['both']:.1f} times ({values['published']:.0f} times as "
        "fast as the published engine on this processor)"
    )


_ENGINE_RATIOS = {
    "int8": "INT8 alone",
    "lengths": "lengths alone",
    "both": "both: over",
    "published": "both: over the published",
}


def _accuracy(summary: Summary) -> str:
    ours, *others = summary["engines"]
    others_kept = ", ".join(f"{each['engine']}'s {each['kept']:.1%}" for each in others)
    return f"INT8 keeps {ours['kept']:.1%} of FP32's F1 on {ours['questions']:,} questions of SQuAD ({others_kept})"


def _server(summary: Summary) -> str:
    ours = summary["servers"][0]
    best = _figure(summary, "most/s over the bare")["value"]
    rival = _figure(summary, "most/s over FastAPI")["value"]
    return (
        f"{ours['most_per_second']:.0f} questions/s, {best:.0%} of the bare engine's best and {rival:.1f} times plain "
        f"FastAPI; at three times its maximum load, it still serves "
        f"{_figure(summary, 'answered at three')['value']:.0%} of that maximum in time"
    )


def _churn(summary: Summary) -> str:
    load, row, memory = (_figure(summary, begins) for begins in ("model load, median", "one row, warm", "memory, 51"))
    return (
        f"a model loads in {load['container']:.1f} ms, {load['ratio']:.0f} times faster; a row takes "
        f"{row['container']:.2f} ms, {row['ratio']:.0f} times faster; memory is {memory['container']:.0f} MB, "
        f"{memory['ratio']:.0f} times less"
    )


def _churn_bars(summary: Summary) -> Bars:
    judged = [each for each in summary["figures"] if each["at_least"] is not None]
    return [(each["figure"], each["ratio"]) for each in judged]


def _soak(summary: Summary) -> str:
    done = next(each["value"] for each in summary["figures"] if each["name"] == "requests")
    return f"{done:,.0f} requests while models are added and removed: none wrong, none lost, memory flat"


def _scale(summary: Summary) -> str:
    few, *_, most = summary["counted"]
    return (
        f"{_figure(summary, 'requests for')['value']:,.0f} requests/s on one core; with {most['models']:,} models, "
        f"loading one takes {most['load_ms']:.1f} ms and a request {most['ask_ms']:.2f} ms; with {few['models']}, "
        f"{few['load_ms']:.1f} ms and {few['ask_ms']:.2f} ms"
    )


def _scale_bars(summary: Summary) -> Bars:
    names = {"load_ms": "load", "ask_ms": "request", "list_ms": "list", "unload_ms": "unload"}
    return [
        (f"{name}, {each['models']:,} models", each[key]) for key, name in names.items() for each in summary["counted"]
    ]


def _unet(summary: Summary) -> str:
    ratio = summary["ratios"][0]
    return (
        f"{ratio['value']:.1f} times the images per second of the best TensorFlow setting, each with its fastest format"
    )


def _unet_bars(summary: Summary) -> Bars:
    names = {
        "tensorflow": "fake TensorFlow Serving, tuned",
        "int8": "OpenVINO INT8",
        "int8_parallel": "OpenVINO, one image per core",
    }
    return [(f"{names[case['server']]}, {case['form']}", case["images_per_second"]) for case in summary["cases"]]


def _neuron(summary: Summary) -> str:
    rate, tail = (_figure(summary, begins) for begins in ("requests a second", "latency, P99"))
    busy = _figure(summary, "virtual cores busy, mean")
    return (
        f"{rate['ratio']:.1f} times the published pattern's requests at {tail['ratio']:.2f} of its P99; virtual cores "
        f"{busy['ours']:.0f}% busy instead of {busy['published']:.0f}%"
    )


def _neuron_bars(summary: Summary) -> Bars:
    rate = _figure(summary, "requests a second")
    return [("neuron_encoder", rate["ours"]), ("published pattern", rate["published"])]


def _load_tests(summary: Summary) -> str:
    rates = {str(name).partition(",")[0].partition(":")[0]: each for name, each in _clients(summary).items()}
    listed = ", ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    return f"a stall of one second shows as a P99 of 0.9 s in the open loop; requests/s of one worker: {listed}"


def _clients(summary: Summary) -> Mapping[str, float]:
    return {name: max(run["requests_per_second"] for run in runs) for name, runs in summary["clients"].items()}


def _simulation(summary: Summary) -> str:
    within = sum(line["met"] is True for line in summary["lines"])
    judged = sum(line["met"] is not None for line in summary["lines"])
    return f"{within} of {judged} simulator figures match real scaling in the local account"


def _verification(summary: Summary) -> str:
    small = summary["figures"][0]
    return f"verifying a request of 1 KiB adds {small['added_ms']:.2f} ms to its P50 of {small['p50_ms_plain']:.2f} ms"


def _clock(summary: Summary) -> str:
    synth, deploy = (_figure(summary, begins) for begins in ("synthesize", "deploy"))
    return f"synthesis {synth['median']:.1f} s; all workloads deployed and responding {deploy['median']:.0f} s"


BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        title="BERT, the engine",
        command="python -m benchmarks.encoder.engine",
        result="encoder/results/engine-local",
        question="How much faster are INT8 and no padding than the best FP32 engine?",
        slips="IPEX INT8, OpenVINO INT8 and OpenVINO FP32",
        headline=_engine,
        bars=lambda summary: [(each["engine"], each["questions_per_second"]) for each in summary["engines"]],
        axis="questions per second, batch 1",
    ),
    Benchmark(
        title="BERT, the accuracy",
        command="python -m benchmarks.encoder.accuracy",
        result="encoder/results/accuracy-local",
        question="How much accuracy does INT8 lose on real questions?",
        slips="the other engines' INT8; FP32 is the reference",
        headline=_accuracy,
    ),
    Benchmark(
        title="BERT, the server",
        command="python -m benchmarks.encoder.server",
        result="encoder/results/server-local",
        question="How much does the server add to the engine: with one client, under load and overloaded?",
        slips="plain FastAPI at low load, LitServe's batching at high load; the bare engine is the upper bound",
        headline=_server,
        bars=lambda summary: [(each["server"], each["most_per_second"]) for each in summary["servers"]],
        axis="questions per second, 32 connections",
    ),
    Benchmark(
        title="tabular compared with Multi Model Server",
        command="python -m benchmarks.tabular",
        result="tabular/results/local-51-models-lean",
        question="How much better is this project's multi-model container than the built-in one's server?",
        slips="Multi Model Server, with leaner workers than SageMaker's image has",
        headline=_churn,
        bars=_churn_bars,
        axis="times better than Multi Model Server",
    ),
    Benchmark(
        title="tabular, a soak",
        command="python -m benchmarks.tabular.soak",
        result="tabular/results/soak",
        question="Do responses stay correct and memory flat while models are added, replaced and evicted?",
        slips="none; a wrong or lost response, or growing memory, misses the target",
        headline=_soak,
    ),
    Benchmark(
        title="tabular with ten thousand models",
        command="python -m benchmarks.tabular.scale",
        result="tabular/results/scale",
        question="Does anything slow down as models are added, and how many requests does one core serve?",
        slips="this container with 51 models",
        headline=_scale,
        bars=_scale_bars,
        axis="ms, median, by HTTP",
    ),
    Benchmark(
        title="saved_model",
        command="python -m benchmarks.saved_model",
        result="saved_model/results/local",
        question="How much faster is OpenVINO INT8 than TensorFlow at its best setting?",
        slips="TensorFlow, tuned by this project's own tuner and sent PNG",
        headline=_unet,
        bars=_unet_bars,
        axis="images per second",
    ),
    Benchmark(
        title="neuron_encoder on timed virtual NeuronCores",
        command="python -m benchmarks.neuron_encoder",
        result="neuron_encoder/results/local-12-cores-2-models",
        question="How much of an accelerator can a host of two cores keep busy?",
        slips="the published FastAPI pattern, on the same cores and host",
        headline=_neuron,
        bars=_neuron_bars,
        axis="requests per second, 12 virtual cores",
    ),
    Benchmark(
        title="The load generator",
        command="python -m benchmarks.load_tests",
        result="load_tests/results/load_tests",
        question="Does it report stalls of a server correctly, and how many requests can it send?",
        slips="a closed loop, which hides stalls; a client that becomes the bottleneck unnoticed",
        headline=_load_tests,
        bars=lambda summary: list(_clients(summary).items()),
        axis="requests per second of one worker",
    ),
    Benchmark(
        title="The scaling simulator",
        command="python -m benchmarks.scaling_simulation",
        result="scaling_simulation/results/local",
        question="Does the simulator predict real scaling?",
        slips="none; every figure is compared with real scaling in the local account",
        headline=_simulation,
    ),
    Benchmark(
        title="Verified requests",
        command="python -m benchmarks.request_verification",
        result="request_verification/results/local",
        question="How much time does verifying each request to the local account take?",
        slips="the same server without verification, which is the lower bound",
        headline=_verification,
    ),
    Benchmark(
        title="Developer wait times",
        command="python -m benchmarks.developer_clock",
        result="developer_clock/results/local",
        question="How long does a developer wait for templates, and for everything to run?",
        slips="earlier versions of this project; imports and calls into Node dominate",
        headline=_clock,
        bars=lambda summary: [(each["figure"], each["median"]) for each in summary["figures"]],
        axis="s, median",
    ),
)
