"""Cores count what they were busy, devices give each shape its traced file, and what is traced is checked."""

import contextlib
import sys
import threading
import types
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from containers.neuron_encoder.artifact import INPUTS, NEURON_FILE, Bucket, NeuronArtifact, load_artifact
from containers.neuron_encoder.devices import engine_version, load_device
from containers.neuron_encoder.devices.core import CoreGroup
from containers.neuron_encoder.devices.timed import TimedDevice, service_seconds
from containers.serving.errors import StartupError
from containers.serving.question_answering.windows import EncoderBatch


def artifact(**changes: Any) -> NeuronArtifact:
    values: dict[str, Any] = {
        "target": "inf2",
        "sdk": {"torch-neuronx": "2.9.0"},
        "inputs": INPUTS,
        "buckets": (
            Bucket(length=128, batch=1, file="128x1.pt"),
            Bucket(length=128, batch=8, file="128x8.pt"),
            Bucket(length=64, batch=4, file="64x4.pt"),
        ),
        "cores_per_copy": 1,
        "device_bytes": 250_000_000,
    }
    return NeuronArtifact(**{**values, **changes})


def batch(rows: int, length: int) -> EncoderBatch:
    ids = np.arange(rows * length, dtype=np.int64).reshape(rows, length)
    return EncoderBatch(ids, np.ones_like(ids), np.zeros_like(ids))


class Clock:
    """Time that passes only in sleep; `late` is by how much each sleep is too long."""

    def __init__(self, late: float = 0.0) -> None:
        self.now, self._late = 100.0, late
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds + self._late

    def core(self) -> CoreGroup:
        return CoreGroup((0,), clock=self, sleep=self.sleep)


def test_an_artifact_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / NEURON_FILE).write_bytes(artifact().to_json())
    assert load_artifact(tmp_path) == artifact()
    assert artifact().lengths == (64, 128)
    assert artifact().batches(128) == (1, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ["input_ids", "attention_mask"]}, "inputs are input_ids, attention_mask: they must be"),
        ({"buckets": []}, "at least one shape"),
        ({"buckets": [{"length": 8, "batch": 1, "file": "a"}] * 2}, "each shape only once"),
        ({"buckets": [{"length": 0, "batch": 1, "file": "a"}]}, "length is 0"),
        ({"buckets": [{"length": 8, "batch": 1, "file": "../a"}]}, "inside the archive"),
        ({"cores_per_copy": 0}, "cores_per_copy must be 1 or more"),
        ({"target": "gpu"}, "Invalid enum value 'gpu'"),
        ({"other": 1}, "unknown field `other`"),
    ],
)
def test_an_artifact_that_cannot_be_served_is_refused_with_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    content = {**msgspec.to_builtins(artifact()), **changes}
    (tmp_path / NEURON_FILE).write_bytes(msgspec.json.encode(content))
    with pytest.raises(StartupError, match="rebuild the artifact") as raised:
        load_artifact(tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_archive_without_traces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"no neuron\.json in the model archive"):
        load_artifact(tmp_path)


@pytest.mark.parametrize(("rows", "seconds"), [(1, 1.0e-3), (8, 5.97e-3), (4, 3.13e-3)])
def test_a_timed_core_takes_the_published_time_and_a_line_between(rows: int, seconds: float) -> None:
    assert service_seconds(rows) == pytest.approx(seconds)


def test_busy_time_adds_up_whatever_the_sleeps_do() -> None:
    clock = Clock(late=0.004)
    core = clock.core()
    models = [TimedDevice(core), TimedDevice(core)]
    for index in range(10):
        models[index % 2].run(batch(8, 16))
    assert core.busy_seconds == pytest.approx(10 * 5.97e-3)
    # The host was late ten times; the device was not longer busy for it.
    assert clock.now - 100 == pytest.approx(10 * (5.97e-3 + 0.004))


def test_work_handed_over_in_time_begins_when_the_device_is_free_however_late_the_host_is() -> None:
    clock = Clock()
    handed_over, order = threading.Event(), list[str]()

    def sleep(seconds: float) -> None:
        order.append(threading.current_thread().name)
        if len(order) == 1:
            second.start()
            assert handed_over.wait(timeout=20)
            clock.sleep(seconds + 0.5)
        else:
            clock.sleep(seconds)

    def time() -> float:
        if threading.current_thread() is second and not handed_over.is_set():
            handed_over.set()
        return clock.now

    core = CoreGroup((0,), clock=time, sleep=sleep)
    second = threading.Thread(target=core.occupy, args=(2.0,), name="second")
    core.occupy(1.0)
    second.join(timeout=20)
    # The host woke half a second late from the first, so that only 1.5 s of the second were left to wait for.
    assert clock.now == pytest.approx(103.0)
    assert core.busy_seconds == pytest.approx(3.0)


def test_equal_questions_have_equal_answers_on_a_timed_core() -> None:
    device = TimedDevice(Clock().core())
    one, other = device.run(batch(2, 16)), device.run(batch(2, 16))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert one[0].dtype == np.float32
    assert one[0].shape == (2, 16)


def test_work_of_any_kind_counts_as_busy_while_it_runs_and_when_it_fails() -> None:
    clock = Clock()
    core = clock.core()

    def work() -> None:
        clock.sleep(2)
        assert core.busy_seconds == pytest.approx(2)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        core.run(work)
    clock.sleep(5)
    assert core.busy_seconds == pytest.approx(2)


class FakeTensor:
    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)

    def float(self) -> "FakeTensor":
        return FakeTensor(self.array.astype(np.float32))

    def numpy(self) -> Any:
        return self.array


class FakeTorch(types.ModuleType):
    """As much of torch as a traced model is run with."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.loaded: list[str] = []
        self.ran: list[tuple[str, list[tuple[int, ...]]]] = []
        self.jit = types.SimpleNamespace(load=self._load)

    def _load(self, path: Path) -> Any:
        self.loaded.append(Path(path).name)

        def model(*inputs: FakeTensor) -> tuple[FakeTensor, FakeTensor]:
            self.ran.append((Path(path).name, [each.array.shape for each in inputs]))
            ids, mask, types_ = (each.array for each in inputs)
            return FakeTensor(ids + types_), FakeTensor(ids * mask)

        return model

    @staticmethod
    def from_numpy(array: Any) -> FakeTensor:
        return FakeTensor(array)

    @staticmethod
    def inference_mode() -> Any:
        return contextlib.nullcontext()


@pytest.mark.parametrize(
    ("target", "module", "package"),
    [("inf2", "torch_neuronx", "torch-neuronx"), ("inf1", "torch_neuron", "torch-neuron")],
)
def test_each_traced_file_is_loaded_once_and_runs_the_batches_of_its_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any, module: str, package: str
) -> None:
    torch, sdk = FakeTorch(), types.ModuleType(module)
    sdk.__version__ = "2.9.0.1+abc"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, module, sdk)
    core = CoreGroup((0,))
    device = load_device("neuron", tmp_path, artifact(target=target), core, threads=1)
    assert sorted(torch.loaded) == ["128x1.pt", "128x8.pt", "64x4.pt"]
    start, end = device.run(batch(8, 128))
    assert torch.ran == [("128x8.pt", [(8, 128)] * 3)]
    assert start.dtype == np.float32
    assert start.shape == end.shape == (8, 128)
    assert core.busy_seconds > 0
    assert engine_version("neuron", artifact(target=target)) == (package, "2.9.0.1")


def test_without_the_sdk_the_image_says_which_base_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch_neuronx", None)
    with pytest.raises(StartupError, match=r"torch-neuronx is not installed .* Neuron deep learning container of inf2"):
        load_device("neuron", tmp_path, artifact(), CoreGroup((0,)), threads=1)


def test_an_artifact_of_one_target_is_not_run_on_another(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="traced for inf2: the device cpu runs only artifacts of target cpu"):
        load_device("cpu", tmp_path, artifact(), CoreGroup((0,)), threads=1)
    with pytest.raises(StartupError, match="the artifact is of target cpu"):
        load_device("neuron", tmp_path, artifact(target="cpu"), CoreGroup((0,)), threads=1)
