"""Names, paths and limits of the SageMaker container contract.

Source: "Use Your Own Inference Code with Hosting Services" and the InvokeEndpoint API reference in the
Amazon SageMaker AI developer guide.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MAX_BODY_BYTES = 6 * 1024 * 1024
"""Largest body of InvokeEndpoint."""

DEFAULT_PORT = 8080
PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
HOST_VARIABLE = "SAGEMAKER_BIND_TO_HOST"
BASE_DIR_VARIABLE = "SAGEMAKER_BASE_DIR"
WORKERS_VARIABLE = "SAGEMAKER_MODEL_SERVER_WORKERS"
"""Requests computed at the same time; the name is that of the sagemaker-inference toolkit."""
MODEL_ARCHIVE = "model.tar.gz"
MANIFEST_FILE = "manifest.json"
ARCHIVE_HASH_VARIABLE = "MODEL_ARCHIVE_SHA256"
"""sha256 in hex of the model archive, as reported by its build; read by the program that extracts the archive."""
MANIFEST_HASH_VARIABLE = "MODEL_MANIFEST_SHA256"
"""sha256 in hex of the archive's manifest, as reported by its build. A container sees only the extracted files, and the
manifest has the hash of each."""
REQUIREMENTS_LABEL = "sagemaker-inference-stacks.requirements"
"""Image label with the path, in the build context, of the requirements file that defines the image's environment."""


@dataclass(frozen=True, slots=True)
class ContainerPaths:
    """Folders that SageMaker uses in a container; the base is `/opt/ml` unless SAGEMAKER_BASE_DIR overrides it."""

    base: Path

    @classmethod
    def from_environment(cls) -> "ContainerPaths":
        """Return the paths below SAGEMAKER_BASE_DIR, a variable of the sagemaker-inference toolkit."""
        return cls(Path(os.environ.get(BASE_DIR_VARIABLE, "/opt/ml")))

    @property
    def model(self) -> Path:
        """Return the folder of the extracted model archive."""
        return self.base / "model"
