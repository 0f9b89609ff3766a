"""Result of the engines: latency of each in milliseconds, ratios, targets, and whether they are met."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.encoder.engines import OURS, OURS_PADDED, REFERENCE, Rival
from benchmarks.encoder.lengths import LONGEST, SQUAD_LENGTHS
from benchmarks.encoder.limit import operations
from benchmarks.recorded import Ratio, Result, Sheet, digits, percentile_ms, verdict

_COLUMNS = ("engine", "questions/s", "slowest turn", "P50 ms", "P90 ms", "mean ms", "n")
_RATIO_COLUMNS = ("ratio", "value", "target", "verdict")


@dataclass(frozen=True, slots=True)
class Measured:
    """Turns of one engine.

    turns: durations in seconds for every length.
    distance: distance of its logits from eager FP32's, as defined in `agreement`.
    """

    rival: Rival
    turns: tuple[tuple[float, ...], ...]
    distance: float

    @property
    def seconds(self) -> tuple[float, ...]:
        """Durations of all turns, in seconds."""
        return tuple(second for turn in self.turns for second in turn)

    @property
    def rate(self) -> float:
        """Questions per second of the median turn."""
        return statistics.median(self.rates)

    @property
    def rates(self) -> tuple[float, ...]:
        """Questions per second of each turn."""
        return tuple(len(turn) / sum(turn) for turn in self.turns)

    def percentile_ms(self, percent: int) -> float:
        """Return a percentile over all turns, in milliseconds."""
        return percentile_ms(self.seconds, percent)


@dataclass(frozen=True, slots=True)
class Limit:
    """Our engine at the longest length.

    peak: INT8 operations per second of one core, in 10**9; None if it could not be measured.
    one, all: seconds per run on one thread, and with one thread on each of `cores`.
    """

    peak: float | None
    one: tuple[float, ...]
    all: tuple[float, ...]
    cores: int

    @property
    def share(self) -> float | None:
        """Fraction of one core's peak that one thread reaches; None without a peak."""
        return None if self.peak is None else operations(LONGEST) / statistics.median(self.one) / 1e9 / self.peak

    @property
    def scaling(self) -> float:
        """Speedup of all threads over one."""
        return statistics.median(self.one) / statistics.median(self.all)


@dataclass(frozen=True, kw_only=True)
class EngineResult(Result):
    """One run on one machine.

    left_out: one sentence for each rival that could not be measured.
    """

    stem = "engine-local"

    turns: int
    measured: tuple[Measured, ...]
    limit: Limit
    left_out: tuple[str, ...] = ()

    def _of(self, name: str) -> Measured:
        return next(each for each in self.measured if each.rival.name == name)

    def _best(self, *, padded: bool) -> Measured:
        """Return the fastest FP32 engine."""
        fp32 = [each for each in self.measured if each.rival.precision == "fp32" and bool(each.rival.pad) == padded]
        return max(fp32, key=lambda each: each.rate)

    @property
    def figures(self) -> tuple[Ratio, ...]:
        """Every ratio; the first ones have targets."""
        ours, padded = self._of(OURS), self._of(OURS_PADDED)
        best, best_padded = self._best(padded=False), self._best(padded=True)
        published = next(each for each in self.measured if each.rival.kind == "script")
        fast = max((e for e in self.measured if e.rival.precision == "int8" and e is not ours), key=lambda e: e.rate)
        share = self.limit.share
        lines = [
            Ratio(
                f"INT8 alone: over {best.rival.name}, the best FP32, at the same lengths", ours.rate / best.rate, 3.0
            ),
            Ratio("lengths alone: over the same INT8 engine padded", ours.rate / padded.rate, 2.3),
            Ratio(
                f"both: over {best_padded.rival.name}, the best FP32 as published", ours.rate / best_padded.rate, 8.0
            ),
            Ratio("both: over the published TorchScript, which this processor slows", ours.rate / published.rate),
            Ratio(f"beside {fast.rival.name}, the fastest other", ours.rate / fast.rate),
        ]
        if share is not None:
            lines.append(Ratio(f"share of one core's INT8 limit at {LONGEST} tokens, one thread", share, 0.70))
        if self.limit.cores == 2:
            lines.append(Ratio(f"two threads over one at {LONGEST} tokens", self.limit.scaling, 1.9))
        return tuple(lines)

    def details(self) -> dict[str, Any]:
        """Return its own JSON values."""
        return {
            "lengths": {"tokens": SQUAD_LENGTHS, "mean": statistics.fmean(SQUAD_LENGTHS)},
            "engines": [
                {
                    "engine": each.rival.name,
                    "precision": each.rival.precision,
                    "padded_to": each.rival.pad,
                    "questions_per_second": each.rate,
                    "turns": each.rates,
                    "p50_ms": each.percentile_ms(50),
                    "p90_ms": each.percentile_ms(90),
                    "questions": len(each.seconds),
                    "distance": each.distance,
                }
                for each in self.measured
            ],
            "limit": {
                "peak_gigaoperations": self.limit.peak,
                "one_thread_ms": statistics.median(self.limit.one) * 1000,
                "all_threads_ms": statistics.median(self.limit.all) * 1000,
                "runs": len(self.limit.one),
            },
            "ratios": [{**asdict(line), "met": line.met} for line in self.figures],
        }

    @property
    def title(self) -> str:
        """What is compared, and where."""
        return f"BERT-base question answering at batch 1 by engine, {self.machine.cores} threads, local"

    def notes(self) -> tuple[str, ...]:
        """Say how the figures were measured, and what they leave out."""
        peak = self.limit.peak
        farthest = {
            precision: max(each.distance for each in self.measured if each.rival.precision == precision)
            for precision in ("fp32", "int8")
        }
        roof = (
            f"Limit: one core does {peak:,.0f} giga-operations a second with vpdpbusd on registers; BERT-base at "
            f"{LONGEST} tokens is {operations(LONGEST) / 1e9:.1f}, which one thread does in "
            f"{statistics.median(self.limit.one) * 1000:.0f} ms and {self.limit.cores} in "
            f"{statistics.median(self.limit.all) * 1000:.0f} ms (medians of {len(self.limit.one)} runs in turns)."
            if peak is not None
            else "The processor's limit was not measured: that takes AVX-512 VNNI and a C compiler."
        )
        return (
            f"Machine: {self.machine.describe()}. Local: a figure of another machine differs, ratios less so.",
            f"Forty lengths, the quantiles of SQuAD's windows (mean {statistics.fmean(SQUAD_LENGTHS):.0f} tokens), one "
            f"at a time in {self.turns} turns of every engine; all engines stay loaded, one runs. OpenVINO's rows are "
            f"padded to the next multiple of 16, which is its best; 'padded' ones to {LONGEST}, as published.",
            "Random weights in BERT-base's shape, the same in all: speed does not depend on them. Before it was timed, "
            f"every engine's logits were compared with those of {REFERENCE}: FP32's are within "
            f"{farthest['fp32']:.2%} of their spread, INT8's within {farthest['int8']:.0%}. What INT8 costs in "
            "accuracy is the build's gate and the demo model's record.",
            "PyTorch's matrix library is slow on AMD processors by its own choice, so what INT8 gives is stated over "
            "the best FP32 engine. 'Rest BF16' wants bfloat16 arithmetic, which C6i has not.",
            roof,
            "vnni is this project's own encoder, which encoder serves. It pads nothing, so that 'padded' asks it for "
            f"{LONGEST} tokens; its logits are nearer to FP32 than those of OpenVINO's INT8 on the demo model.",
            "Inductor is compiled ahead of time for any length, its INT8 with torchao's static scales; those of each "
            "input are slower there. CTranslate2's encoder has its two logits from NumPy.",
            *self.left_out,
        )

    def sheets(self) -> list[Sheet]:
        """Return the tables."""
        rows = [
            (
                each.rival.name,
                f"{each.rate:.1f}",
                f"{min(each.rates):.1f}",
                f"{each.percentile_ms(50):.1f}",
                f"{each.percentile_ms(90):.1f}",
                f"{statistics.fmean(each.seconds) * 1000:.1f}",
                str(len(each.seconds)),
            )
            for each in sorted(self.measured, key=lambda each: -each.rate)
        ]
        ratios = [
            (
                line.figure,
                f"{line.value:.2f}",
                "" if line.at_least is None else digits(line.at_least),
                verdict(line.met),
            )
            for line in self.figures
        ]
        return [Sheet(_COLUMNS, _COLUMNS[1:], rows), Sheet(_RATIO_COLUMNS, ("value", "target"), ratios)]
