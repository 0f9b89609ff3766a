"""The engines that can run the encoder, behind one protocol."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

from containers.serving.errors import StartupError
from containers.serving.messages import one_line
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch


class EncoderEngine(Protocol):
    """A loaded encoder, which runs for one thread at a time.

    packs: rows of any lengths run together without padding, and no shape has to be prepared.
    """

    @property
    def packs(self) -> bool: ...

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Start and end logits, each float32 of shape (rows, tokens)."""


@runtime_checkable
class KnowsItsSizes(Protocol):
    """An engine that can say whether a tokenizer fits its model."""

    def check_fits(self, words: int, max_seq_length: int) -> None:
        """Raise StartupError if the model has fewer than `words` token IDs or `max_seq_length` positions."""


_MODULES = {
    "vnni": "containers.encoder.engines.vnni",
    "openvino": "containers.encoder.engines.openvino",
    "onnxruntime": "containers.encoder.engines.onnxruntime",
    "ipex": "containers.encoder.engines.ipex",
}


def load_engine(name: str, model_dir: Path, threads: int) -> EncoderEngine:
    """Load the model in `model_dir` with the engine of that name and warm nothing.

    Only the engine asked for is imported, since an image installs just one. Raises ValueError for an unknown name,
    ImportError for one that is not installed, and StartupError for a model that it cannot load.
    """
    load: Callable[[Path, int], EncoderEngine] = _module(name).load
    try:
        return load(model_dir, threads)
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(
            f"{name} cannot load the model ({one_line(error)}); upload the artifact again or rebuild it"
        ) from error


def load_lanes(name: str, model_dir: Path, cores: int) -> Sequence[EncoderEngine]:
    """Loads the model with an engine for each core, all of which may run at once; raises as `load_engine` does.

    None for an engine that shares its threads in the whole process, and for a single core.
    """
    load: Callable[[Path, int], Sequence[EncoderEngine]] | None = getattr(_module(name), "load_lanes", None)
    return load(model_dir, cores) if load is not None and cores > 1 else ()


def installed_version(name: str) -> str:
    """Version of an engine as it is installed here; raises as `load_engine` does."""
    version: Callable[[], str] = _module(name).version
    return version()


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise ValueError(f"unknown engine {name!r}: one of {', '.join(_MODULES)}")
    return import_module(_MODULES[name])
