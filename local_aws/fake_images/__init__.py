"""Fakes of AWS's own images, which are not available here: same contract, different software, labelled as such."""

from dataclasses import dataclass
from pathlib import Path

from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.hosting.images import Image

_TENSORFLOW_SERVING = "local_aws.fake_images.tensorflow_serving"


@dataclass(frozen=True, slots=True)
class FakeImage:
    """Fake of an AWS image.

    note: shown in every log and table. environment: name of its virtual environment, shared by fakes of one package.
    """

    package: str
    note: str
    environment: str

    @property
    def requirements(self) -> Path:
        """Path of the complete list of packages in its environment."""
        return ROOT / self.package.replace(".", "/") / "requirements.txt"


FAKES = {
    "tensorflow-inference": FakeImage(
        _TENSORFLOW_SERVING,
        "a fake of SageMaker's TensorFlow Serving image: TensorFlow behind this project's own server",
        "tensorflow-inference",
    ),
    "sagemaker-inference-tensorflow": FakeImage(
        _TENSORFLOW_SERVING,
        "a fake of SageMaker's image for models compiled by Neo: neither Neo's runtime nor TensorFlow Serving, "
        "but TensorFlow behind this project's own server",
        "tensorflow-inference",
    ),
}
"""Fakes by repository name."""
NEO_COMPILER = "local_aws.fake_images.neo"
"""Package of the fake Neo compiler, which runs in the environment with TensorFlow."""


def find(cache: Path, uri: str) -> Image | None:
    """Return the fake of an AWS image, with its environment installed, or None if there is no fake of it.

    Raises EnvironmentSetupError.
    """
    repository = uri.rpartition("/")[2].partition(":")[0]
    fake = FAKES.get(repository)
    if fake is None or ".dkr.ecr." not in uri:
        return None
    folder = _environment(cache, fake)
    command = (f"{folder}/bin/python", "-m", fake.package)
    return Image(str(ROOT), "/", command, {}, str(folder), fake.note, installs=True)


def neo_compiler(cache: Path) -> tuple[str, ...]:
    """Return the command of the fake Neo compiler, with its environment installed; raise EnvironmentSetupError."""
    python = _environment(cache, FAKES["tensorflow-inference"]) / "bin/python"
    return (str(python), "-m", NEO_COMPILER)


def _environment(cache: Path, fake: FakeImage) -> Path:
    return environment(cache, fake.environment, fake.requirements, "--no-deps", compiled=False)
