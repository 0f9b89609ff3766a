"""Result: figures of both servers, ratios, targets, and whether they are met."""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.recorded import Ratio, Result, Sheet, verdict
from benchmarks.saved_model.engine_alone import EngineFigures
from benchmarks.saved_model.measure import FORMS, Case, Comparison, ServerName
from load_tests.tuning import report as tuning

SPEED_TARGET, IOU_TARGET, OVERHEAD_TARGET, SERVED_TARGET = 4.5, 0.99, 2.0, 0.95
_COLUMNS = ("server", "images sent as", "images/s", "slowest turn", "P50 ms", "P99 ms", "overhead ms", "IoU", "n")
_RATIO_COLUMNS = ("ratio", "value", "target", "verdict")
_NAMES: dict[ServerName, str] = {
    "tensorflow": "TensorFlow stand-in, tuned",
    "int8": "OpenVINO INT8",
    "int8_parallel": "OpenVINO INT8, an image a core",
}


@dataclass(frozen=True, kw_only=True)
class SavedModelResult(Result):
    """One run on one machine."""

    comparison: Comparison

    def overhead_ms(self, case: Case) -> float:
        """Return the time per image for a single client in excess of OpenVINO's own time, by their medians."""
        return self.comparison.cases[case].alone.percentile_ms(50) - self.comparison.engine.p50_ms

    @property
    def figures(self) -> tuple[Ratio, ...]:
        """Every ratio; the first ones have targets."""
        rates = {case: measured.images_per_second for case, measured in self.comparison.cases.items()}
        ious = {case: measured.iou for case, measured in self.comparison.cases.items()}
        tensorflow = max((case for case in rates if case.server == "tensorflow"), key=rates.__getitem__)
        int8 = max((case for case in rates if case.server != "tensorflow"), key=rates.__getitem__)
        both = {
            form: max(rate for case, rate in rates.items() if case.form == form and case.server != "tensorflow")
            / rates[Case("tensorflow", form)]
            for form in FORMS["tensorflow"]
        }
        png, npy, text = (self.overhead_ms(Case("int8", form)) for form in ("png", "npy", "json"))
        return (
            Ratio(
                f"images/s, INT8 by {int8.form} over TensorFlow by {tensorflow.form}, each its fastest",
                rates[int8] / rates[tensorflow],
                SPEED_TARGET,
            ),
            *(Ratio(f"images/s, both by {form}", ratio) for form, ratio in both.items()),
            Ratio(
                f"images/s by {int8.form} over the engine's alone, an image on each core",
                rates[int8] / self.comparison.engine.most_per_second,
                SERVED_TARGET,
            ),
            Ratio("IoU as served, INT8 over TensorFlow", ious[int8] / ious[tensorflow], IOU_TARGET),
            Ratio(
                "IoU on the build's test images, INT8 over TensorFlow",
                self.comparison.build_iou["int8"] / self.comparison.build_iou["tensorflow"],
                IOU_TARGET,
            ),
            Ratio("overhead of json over png", text / png, OVERHEAD_TARGET),
            Ratio("overhead of json over npy", text / npy, OVERHEAD_TARGET),
        )

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        comparison, best = self.comparison, self.comparison.sweep.best
        assert best is not None
        return {
            "parameters": comparison.parameters,
            "clients": comparison.clients,
            "tuner": {
                "best": best.candidate.label,
                "trials": [
                    {
                        "settings": trial.candidate.label,
                        "outcome": trial.outcome,
                        "times_defaults": trial.ratio,
                        "images_per_second": trial.requests_per_second,
                    }
                    for trial in comparison.sweep.trials
                ],
            },
            "engine_p50_ms": comparison.engine.p50_ms,
            "engine": {
                "images_per_second": comparison.engine.most_per_second,
                "turns": comparison.engine.per_second,
                "operations": comparison.engine.operations,
                "peak_gigaoperations": comparison.engine.peak,
                "share_of_peak": comparison.engine.share_of_peak,
            },
            "cases": [
                {
                    **asdict(case),
                    "images_per_second": measured.images_per_second,
                    "turns": [turn.requests_per_second for turn in measured.loaded],
                    "alone_p50_ms": measured.alone.percentile_ms(50),
                    "alone_p99_ms": measured.alone.percentile_ms(99),
                    "alone_images": len(measured.alone.latencies),
                    "iou": measured.iou,
                }
                for case, measured in comparison.cases.items()
            ],
            "ratios": [{**asdict(line), "met": line.met} for line in self.figures],
        }

    @property
    def title(self) -> str:
        """What is compared, and where."""
        millions = self.comparison.parameters / 1e6
        return f"U-Net of {millions:.1f} M parameters: TensorFlow tuned beside OpenVINO INT8, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        sweep, clients, engine = self.comparison.sweep, self.comparison.clients, self.comparison.engine
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs, ratios less so.",
            "TensorFlow stand-in: TensorFlow 2.19 under a server of this project in place of TensorFlow Serving, whose "
            "binary cannot be had here. It reads JSON in Python, so its JSON figures are lower than TensorFlow "
            "Serving's; a PNG is decoded in the model's own graph and costs it little. Its weights are constants and "
            "its normalization is folded, which serves it by a tenth; its graph is otherwise Keras's own.",
            "OpenVINO INT8 is the container's default: few images get all cores in turn, as many as cores one each. "
            "Its build joins upsamplings with the convolutions after them, the same function in 7 % less arithmetic.",
            f"Tuner: {tuning.conclusion(sweep)}. {len(sweep.trials)} settings were tried.",
            f"images/s: {clients} clients on kept-alive connections to each container's /invocations, median "
            "turn, turns between all rows; clients and servers share the cores. P50, P99: one client alone; the P99 of "
            "the slower rows rests on few images.",
            "overhead: what an image takes one client alone (P50) besides OpenVINO's own time for it on as many "
            f"threads, {engine.p50_ms:.1f} ms (P50 of {len(engine.ms)}).",
            _bound(engine),
            "Tried and not kept: normalizing and thresholding in the model's graph (0.02 ms each outside it), huge "
            "pages (no difference), BF16 for what is not INT8 (every layer is), and joined upsampling as an ordinary "
            "convolution and a shuffle of pixels (three times the time of a transposed one).",
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                _NAMES[case.server],
                case.form,
                f"{measured.images_per_second:.1f}",
                f"{min(turn.requests_per_second for turn in measured.loaded):.1f}",
                f"{measured.alone.percentile_ms(50):.1f}",
                f"{measured.alone.percentile_ms(99):.1f}",
                f"{self.overhead_ms(case):.1f}" if case.server == "int8" else "",
                f"{measured.iou:.4f}",
                str(len(measured.alone.latencies)),
            )
            for case, measured in self.comparison.cases.items()
        ]
        ratios = [
            (
                line.figure,
                f"{line.value:.4f}" if line.figure.startswith("IoU") else f"{line.value:.2f}",
                "" if line.at_least is None else f"at least {line.at_least:g}",
                verdict(line.met),
            )
            for line in self.figures
        ]
        return [Sheet(_COLUMNS, _COLUMNS[2:], rows), Sheet(_RATIO_COLUMNS, ("value",), ratios)]


def _bound(engine: EngineFigures) -> str:
    bound = (
        f"Bound: the engine alone does {engine.most_per_second:.1f} images/s with one on each core; an image is "
        f"{engine.operations / 1e9:.1f} giga-operations of INT8 convolutions"
    )
    if engine.peak is None or engine.share_of_peak is None:
        return f"{bound}."
    return (
        f"{bound}, which is {engine.share_of_peak:.0%} of what {engine.cores} cores could do "
        f"({engine.peak:,.0f} giga-operations a second each with vpdpbusd on registers)."
    )
