"""Run OpenVINO INT8 without server and client, as the reference for serving and for the processor."""

import math
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import openvino as ov

from containers.saved_model import engine
from containers.saved_model.engine import OpenVinoSegmenter
from containers.saved_model.images import to_floats
from containers.saved_model.signature import MODEL_FILE
from containers.serving.cpu import available_cores
from load_tests.payloads import saved_model


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """Figures of the engine by itself.

    ms: duration of each image on all cores, one after the other, in milliseconds.
    per_second: images per second of each turn with one image on each core.
    operations: operations of one image.
    peak: INT8 operations per second of one core, in 10**9; None if not measured.
    """

    ms: tuple[float, ...]
    per_second: tuple[float, ...]
    operations: int
    peak: float | None
    cores: int

    @property
    def p50_ms(self) -> float:
        """Median duration of one image on all cores, in milliseconds."""
        return statistics.median(self.ms)

    @property
    def most_per_second(self) -> float:
        """Images per second of the median turn with one image on each core."""
        return statistics.median(self.per_second)

    @property
    def share_of_peak(self) -> float | None:
        """Fraction of all cores' peak INT8 operations in use with one image on each core."""
        return None if self.peak is None else self.most_per_second * self.operations / (self.peak * 1e9 * self.cores)


@dataclass
class EngineAlone:
    """The engine in this process, with as many threads as the container gives it."""

    model_dir: Path
    samples: Sequence[saved_model.Sample]
    ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cores = available_cores()
        self._all = engine.load(self.model_dir, "int8", self._cores)
        self._each = engine.load(self.model_dir, "int8", self._cores, self._cores)
        self._images = [to_floats(sample.pixels[None]) for sample in self.samples]

    def run(self, seconds: float) -> None:
        """Add one turn for each way of sharing the cores."""
        self.ms += self._loop(self._all, seconds / 2)
        times: list[list[float]] = [[] for _ in range(self._cores)]

        def work(core: int) -> None:
            times[core] = self._loop(self._each, seconds)

        threads = [threading.Thread(target=work, args=(core,)) for core in range(self._cores)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.per_second.append(sum(map(len, times)) / (time.perf_counter() - began))

    def figures(self, peak: float | None) -> EngineFigures:
        """Return the figures over all turns."""
        done = operations(self.model_dir / MODEL_FILE)
        return EngineFigures(tuple(self.ms), tuple(self.per_second), done, peak, self._cores)

    def _loop(self, model: OpenVinoSegmenter, seconds: float) -> list[float]:
        """Return the milliseconds of consecutive images for `seconds`."""
        times: list[float] = []
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            model.segment(self._images[len(times) % len(self._images)])
            times.append(1000 * (time.perf_counter() - began))
        return times


def operations(model: Path) -> int:
    """Return the multiplications and additions of one image's convolutions, counting padding like any other pixel.

    Raises RuntimeError for a file that OpenVINO cannot read.
    """
    total = 0
    for node in ov.Core().read_model(model).get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "ConvolutionBackpropData"):
            continue
        # A convolution applies its kernel to each output pixel, a transposed one to each input pixel.
        pixels = node.output(0) if node.get_type_name() == "Convolution" else node.input(0)
        total += 2 * math.prod(pixels.get_shape()[2:]) * math.prod(node.input(1).get_shape())
    return total
