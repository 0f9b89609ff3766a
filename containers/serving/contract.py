"""Names, paths and limits of the SageMaker container contract.

Source: "Use Your Own Inference Code with Hosting Services" and the InvokeEndpoint API reference in the
Amazon SageMaker AI developer guide.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MAX_BODY_BYTES = 6 * 1024 * 1024
"""Largest InvokeEndpoint body."""

DEFAULT_PORT = 8080
PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
HOST_VARIABLE = "SAGEMAKER_BIND_TO_HOST"
BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"
WORKERS_VARIABLE = "SAGEMAKER_MODEL_SERVER_WORKERS"
"""Requests computed at the same time, as the sagemaker-inference toolkit names it."""
MODEL_ARCHIVE = "model.tar.gz"
MANIFEST_FILE = "manifest.json"
ARCHIVE_HASH_VARIABLE = "MODEL_ARCHIVE_SHA256"
"""sha256 of the model archive as its build reported it, in hex: for whoever extracts the archive."""
MANIFEST_HASH_VARIABLE = "MODEL_MANIFEST_SHA256"
"""sha256 of the archive's manifest as its build reported it, in hex. A container sees the extracted files only, and the
manifest has the hash of each."""
REQUIREMENTS_LABEL = "sagemaker-inference-stacks.requirements"
"""Image label naming the requirements file, in the build context, that makes up the image's environment."""


@dataclass(frozen=True, slots=True)
class ContainerPaths:
    """Where SageMaker puts things in a container; the base is `/opt/ml` unless SAGEMAKER_BASE_DIR says otherwise."""

    base: Path

    @classmethod
    def from_environment(cls) -> "ContainerPaths":
        """Reads SAGEMAKER_BASE_DIR, the variable of the sagemaker-inference toolkit."""
        return cls(Path(os.environ.get(BASE_DIR_VARIABLE, "/opt/ml")))

    @property
    def model(self) -> Path:
        """The extracted model archive."""
        return self.base / "model"
