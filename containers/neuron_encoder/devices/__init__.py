"""What runs a batch: NeuronCores, or virtual ones on a machine without them."""

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
        """Start and end logits, each float32 of shape (rows, tokens); the batch has the shape of a bucket."""


def load_device(kind: DeviceKind, model_dir: Path, artifact: NeuronArtifact, core: CoreGroup, threads: int) -> Device:
    """Loads one copy of the model onto the core group and warms nothing.

    Only the engine of that kind is imported, since an image installs just one. Raises StartupError, also for a model
    file that is damaged.
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
    """Name and version of the engine that this image would run the artifact with; None where none is needed.

    Raises StartupError for one that is not installed.
    """
    if kind == "timed":
        return None
    if kind == "cpu":
        from containers.neuron_encoder.devices import cpu

        return cpu.ENGINE, cpu.version()
    from containers.neuron_encoder.devices import neuron

    return neuron.version(artifact.target)
