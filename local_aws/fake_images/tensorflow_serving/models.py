"""The models and versions that a model server has loaded."""

import gc
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.serving.memory import return_freed_memory
from local_aws.fake_images.tensorflow_serving.batching import BatchScheduler
from local_aws.fake_images.tensorflow_serving.errors import Code, StatusError, invalid
from local_aws.fake_images.tensorflow_serving.servables import Servable, loadable_errors

_REASON_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a request asks for: a model, and a version, a label, or neither for the highest version."""

    name: str
    version: int | None = None
    label: str | None = None


class Models:
    """Loaded models by name and version."""

    def __init__(self, config: Any, scheduler: BatchScheduler | None) -> None:
        self._config, self._scheduler = config, scheduler
        self._servables: dict[str, dict[int, Servable]] = {}
        self._loading = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Return the names of all models."""
        return sorted(self._servables)

    def load(self, name: str, folders: Mapping[int, Path]) -> None:
        """Load all versions of a model, or none; raise StatusError."""
        loaded: dict[int, Servable] = {}
        with self._loading:
            for version, folder in folders.items():
                try:
                    loaded[version] = Servable(name, version, folder, self._config, self._scheduler)
                except loadable_errors() as error:
                    for servable in loaded.values():
                        servable.close()
                    reason = str(error)[:_REASON_CHARACTERS]
                    raise StatusError(Code.UNKNOWN, f"version {version} of model {name}: {reason}") from error
            self._servables = {**self._servables, name: loaded}
            _freeze()

    def unload(self, name: str) -> None:
        """Unload a model and release its memory; raise StatusError for one that is not loaded."""
        with self._loading:
            if name not in self._servables:
                raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
            versions = self._servables[name]
            self._servables = {key: value for key, value in self._servables.items() if key != name}
            for servable in versions.values():
                servable.close()
            del versions
            gc.unfreeze()
            _freeze()
            return_freed_memory()

    def find(self, spec: ModelSpec) -> Servable:
        """Return the servable that a request asks for; raise StatusError."""
        if spec.label is not None:
            raise invalid(f"Unrecognized servable version label: {spec.label}")
        versions = self._servables.get(spec.name, {})
        wanted = max(versions, default=None) if spec.version is None else spec.version
        if wanted is None or wanted not in versions:
            asked = f"Latest({spec.name})" if spec.version is None else f"Specific({spec.name}, {spec.version})"
            raise StatusError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
        return versions[wanted]

    def available(self, spec: ModelSpec) -> list[int]:
        """Return the available versions that a request for a model's status asks for; raise StatusError."""
        if spec.label is not None:
            raise invalid(f"Unrecognized servable version label: {spec.label}")
        versions = self._servables.get(spec.name, {})
        if spec.version is None and not versions:
            raise StatusError(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if spec.version is None:
            return sorted(versions, reverse=True)
        if spec.version not in versions:
            raise StatusError(Code.NOT_FOUND, f"Could not find version {spec.version} of model {spec.name}")
        return [spec.version]


def _freeze() -> None:
    # An image in JSON is a hundred thousand objects. Creating them makes Python's collector scan all of TensorFlow's
    # objects: 0.13 s per request, which TensorFlow Serving does not spend.
    gc.collect()
    gc.freeze()
