"""Devices that run batches: NeuronCores, or virtual cores on a machine without them."""

from pathlib import Path
from typing import Protocol

from containers.neuron_encoder.artifact import NeuronArtifact
from containers.neuron_encoder.devices.core import CoreGroup
from containers.neuron_encoder.settings import DeviceKind
from containers.serving.errors import StartupError
from containers.serving.messages import one_line
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch


class Device(Protocol):
    """One copy of the model on a group of cores; `run` may be called from several threads, which take turns."""

    def run(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, each float32 of shape (rows, tokens); the batch must have a bucket's shape."""


def load_device(kind: DeviceKind, model_dir: Path, artifact: NeuronArtifact, core: CoreGroup, threads: int) -> Device:
    """Load one copy of the model onto the core group, without a warm-up.

    Only the engine for `kind` is imported, since an image installs just one. Raises StartupError, also for a damaged
    model file.
    """
    try:
        return _load_device(kind, model_dir, artifact, core, threads)
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(
            f"the traced model cannot be loaded ({one_line(error)}); upload the artifact again or rebuild it"
        ) from error


def _load_device(kind: DeviceKind, model_dir: Path, artifact: NeuronArtifact, core: CoreGroup, threads: int) -> Device:
    if kind == "timed":
        from containers.neuron_encoder.devices.timed import TimedDevice

        return TimedDevice(core)
    if kind == "cpu":
        from containers.neuron_encoder.devices.cpu import CpuDevice

        return CpuDevice.load(model_dir, artifact, core, threads)
    from containers.neuron_encoder.devices.neuron import NeuronDevice

    return NeuronDevice.load(model_dir, artifact, core)


def engine_version(kind: DeviceKind, artifact: NeuronArtifact) -> tuple[str, str] | None:
    """Return the name and version of the engine that runs the artifact in this image, or None if it needs none.

    Raises StartupError for an engine that is not installed.
    """
    if kind == "timed":
        return None
    if kind == "cpu":
        from containers.neuron_encoder.devices import cpu

        return cpu.ENGINE, cpu.version()
    from containers.neuron_encoder.devices import neuron

    return neuron.version(artifact.target)
