"""Images asked for at the same time share the cores: few get all of them in turn, many get one each."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset13 as ops

from containers.saved_model.engine import load
from containers.saved_model.sharing import SharedCores, Streams
from containers.saved_model.signature import MODEL_FILE

SIDE = 224
Floats = NDArray[np.float32]


def image(value: float, rows: int = 1) -> Floats:
    return np.full((rows, SIDE, SIDE, 3), value, np.float32)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, "not reached within 30 s"
        time.sleep(0.001)


@dataclass
class Gated:
    """A model that answers an image with its mean, once it is let; it knows what began and what is being computed."""

    name: str
    log: list[str]
    together: set[str]
    at_once: int = 0
    most: int = 0
    fails: bool = False
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def segment(self, images: Floats) -> Floats:
        with self.lock:
            self.log.append(self.name)
            self.together.add(self.name)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        assert self.together == {self.name}, "both ways were used at once"
        assert self.gate.acquire(timeout=30)
        with self.lock:
            self.at_once -= 1
            if not self.at_once:
                self.together.discard(self.name)
        if self.fails:
            raise RuntimeError("broken")
        means: Floats = images.mean(-1, keepdims=True, dtype=np.float32)
        return means

    def computes(self, count: int) -> Callable[[], bool]:
        return lambda: self.at_once == count


class Cores:
    """Two ways to use four cores, and clients that ask for one image each."""

    def __init__(self) -> None:
        self.log: list[str] = []
        together: set[str] = set()
        self.all, self.each = Gated("all", self.log, together), Gated("each", self.log, together)
        self.shared = SharedCores(Streams(self.all, 1), Streams(self.each, 4))
        self.answers: list[float] = []
        self._clients: list[threading.Thread] = []

    def are_asked(self, count: int) -> Callable[[], bool]:
        return lambda: self.shared.asked == count

    def ask(self, count: int) -> None:
        for _ in range(count):
            client = threading.Thread(target=self._client, args=(len(self._clients) / 100,), daemon=True)
            self._clients.append(client)
            client.start()
        until(lambda: self.shared.asked + len(self.answers) == len(self._clients))

    def _client(self, value: float) -> None:
        mask = self.shared.segment(image(value))
        self.answers.append(round(float(mask.max()), 4))

    def finish(self) -> None:
        """Lets everything end, and sees that each client had its own image's answer."""
        for _ in self._clients:
            self.all.gate.release()
            self.each.gate.release()
        for client in self._clients:
            client.join(30)
        assert sorted(self.answers) == [number / 100 for number in range(len(self._clients))]


def test_a_lone_image_gets_all_cores() -> None:
    cores = Cores()
    cores.ask(1)
    cores.finish()
    assert cores.log == ["all"]


def test_fewer_images_than_cores_get_all_cores_one_after_the_other() -> None:
    cores = Cores()
    cores.ask(3)
    cores.finish()
    assert cores.log == ["all"] * 3
    assert cores.all.most == 1


def test_as_many_images_as_cores_get_a_core_each_once_the_one_on_all_cores_is_done() -> None:
    cores = Cores()
    cores.ask(1)
    until(lambda: cores.log == ["all"])
    cores.ask(6)
    cores.all.gate.release()
    until(lambda: cores.log == ["all"] + ["each"] * 4)
    cores.finish()
    assert cores.each.most == 4


def test_cores_that_are_half_idle_go_to_one_image_again() -> None:
    cores = Cores()
    cores.ask(1)
    until(lambda: cores.log == ["all"])
    cores.ask(4)
    cores.all.gate.release()
    until(lambda: cores.log == ["all"] + ["each"] * 4)
    for left in (3, 2, 1):
        cores.each.gate.release()
        until(cores.are_asked(left))
    cores.ask(1)
    cores.each.gate.release()
    until(lambda: cores.log[5:] == ["all"])
    cores.finish()


def test_one_image_that_fails_leaves_its_turn_to_the_next() -> None:
    cores = Cores()
    cores.all.fails = True
    cores.all.gate.release()
    with pytest.raises(RuntimeError, match="broken"):
        cores.shared.segment(image(0.5))
    cores.all.fails = False
    cores.ask(1)
    cores.finish()


def test_a_fixed_number_of_images_is_never_exceeded() -> None:
    model = Gated("fixed", [], set())
    shared = SharedCores(Streams(model, 2))
    clients = [threading.Thread(target=shared.segment, args=(image(0.5),), daemon=True) for _ in range(5)]
    for client in clients:
        client.start()
    until(model.computes(2))
    for _ in clients:
        model.gate.release()
    for client in clients:
        client.join(30)
    assert (model.most, len(model.log)) == (2, 5)


def save_convolution(folder: Path) -> None:
    """A model with a convolution, so that every core's share of a layer counts."""
    pixels = ops.parameter([1, SIDE, SIDE, 3], np.float32, "image")
    pixels.output(0).get_tensor().set_names({"image"})
    planes = ops.transpose(pixels, np.array([0, 3, 1, 2], np.int64))
    kernel = np.random.default_rng(0).normal(size=(1, 3, 3, 3)).astype(np.float32)
    drawn = ops.sigmoid(ops.convolution(planes, ops.constant(kernel), [1, 1], [1, 1], [1, 1], [1, 1]))
    mask = ops.transpose(drawn, np.array([0, 2, 3, 1], np.int64))
    mask.output(0).get_tensor().set_names({"mask"})
    ov.save_model(ov.Model([mask], [pixels], "convolution"), folder / MODEL_FILE, compress_to_fp16=False)


def test_images_asked_for_together_get_the_very_answers_that_each_gets_alone(tmp_path: Path) -> None:
    save_convolution(tmp_path)
    images = np.random.default_rng(0).random((8, SIDE, SIDE, 3), dtype=np.float32)
    alone = load(tmp_path, "fp32", threads=2)
    expected = [alone.segment(images[row : row + 1]) for row in range(len(images))]
    shared = SharedCores(Streams(alone, 1), Streams(load(tmp_path, "fp32", threads=2, streams=2), 2))
    different: list[int] = []

    def client(row: int) -> None:
        for _ in range(10):
            if not np.array_equal(shared.segment(images[row : row + 1]), expected[row]):
                different.append(row)

    clients = [threading.Thread(target=client, args=(row,), daemon=True) for row in range(len(images))]
    for each in clients:
        each.start()
    for each in clients:
        each.join(60)
    assert not any(each.is_alive() for each in clients)
    assert different == []
    assert np.array_equal(shared.segment(images), np.concatenate(expected))
