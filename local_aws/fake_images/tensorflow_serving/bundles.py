"""Find the models in an archive as SageMaker's container finds them.

Source: `find_models` and `find_model_versions` in docker/build_artifacts/sagemaker/tfs_utils.py of
aws/sagemaker-tensorflow-serving-container.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from local_aws.fake_images.tensorflow_serving.settings import SettingsError

_GRAPH = "saved_model.pb"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model with all its versions. path: the folder that holds one folder for each version."""

    name: str
    path: Path
    versions: tuple[int, ...]

    def folder(self, version: int) -> Path:
        """Return the folder of a version, which may have leading zeros in its name."""
        return next(path for path in sorted(self.path.iterdir()) if path.name.isdecimal() and int(path.name) == version)


def find_models(folder: Path) -> dict[str, Bundle]:
    """Return the models below a folder by name, in alphabetical order; raise SettingsError."""
    paths = {graph.parents[1] for graph in folder.rglob(_GRAPH) if re.fullmatch(r"\d+", graph.parent.name, re.ASCII)}
    models: dict[str, Bundle] = {}
    for path in sorted(paths):
        if path.name in models:
            raise SettingsError(
                f"the archive holds two models named {path.name}: {models[path.name].path.relative_to(folder)} and "
                f"{path.relative_to(folder)}; rename one, since TensorFlow Serving needs unique names"
            )
        models[path.name] = bundle(path.name, path)
    if not models:
        raise SettingsError("no SavedModel bundles found! The archive must hold MODEL/VERSION/saved_model.pb")
    return models


def bundle(name: str, path: Path) -> Bundle:
    """Return the model in a folder with all its numbered versions; raise SettingsError."""
    versions = tuple(sorted(int(each.name) for each in path.iterdir() if each.name.isdecimal()))
    if not versions:
        raise SettingsError(f"{path.name} has no folder named after a version, such as {path.name}/1/{_GRAPH}")
    if 0 in versions:
        raise SettingsError(
            f"model {name} has version 0: the container removes leading zeros and finds no number; name the folder 1"
        )
    return Bundle(name, path, versions)
