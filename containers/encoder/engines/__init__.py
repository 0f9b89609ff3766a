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
    """A loaded encoder, which runs for one thread at a time."""

    @property
    def packs(self) -> bool:
        """Whether rows of any length run together without padding, and no shape needs preparation."""

    def infer(self, batch: EncoderBatch) -> tuple[FloatArray, FloatArray]:
        """Return start and end logits, each float32 of shape (rows, tokens)."""


@runtime_checkable
class KnowsItsSizes(Protocol):
    """An engine that can check whether a tokenizer fits its model."""

    def check_fits(self, words: int, max_seq_length: int) -> None:
        """Raise StartupError if the model has fewer than `words` token ids or `max_seq_length` positions."""


_MODULES = {
    "vnni": "containers.encoder.engines.vnni",
    "openvino": "containers.encoder.engines.openvino",
    "onnxruntime": "containers.encoder.engines.onnxruntime",
    "ipex": "containers.encoder.engines.ipex",
}


def load_engine(name: str, model_dir: Path, threads: int) -> EncoderEngine:
    """Load the model in `model_dir` with the named engine, without a warm-up.

    Only the requested engine is imported, since an image installs just one. Raises ValueError for an unknown name,
    ImportError for an engine that is not installed, and StartupError for a model that it cannot load.
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
    """Load the model with one engine per core, which may all run at once; raises as `load_engine` does.

    Returns an empty sequence for a single core, and for an engine whose threads are shared by the whole process.
    """
    load: Callable[[Path, int], Sequence[EncoderEngine]] | None = getattr(_module(name), "load_lanes", None)
    return load(model_dir, cores) if load is not None and cores > 1 else ()


def installed_version(name: str) -> str:
    """Return the installed version of an engine; raises as `load_engine` does."""
    version: Callable[[], str] = _module(name).version
    return version()


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise ValueError(f"unknown engine {name!r}: choose one of {', '.join(_MODULES)}")
    return import_module(_MODULES[name])
