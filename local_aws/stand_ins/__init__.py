"""Stand-ins for AWS's own images, which cannot be had here: the same contract, other software, and said so."""

from dataclasses import dataclass
from pathlib import Path

from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.hosting.images import Image

_TENSORFLOW_SERVING = "local_aws.stand_ins.tensorflow_serving"


@dataclass(frozen=True, slots=True)
class StandIn:
    """What runs in place of an image; note is what every log and table says of it.

    environment: name of its environment, which stand-ins of one package share.
    """

    package: str
    note: str
    environment: str

    @property
    def requirements(self) -> Path:
        """What its environment holds, all of it."""
        return ROOT / self.package.replace(".", "/") / "requirements.txt"


STAND_INS = {
    "tensorflow-inference": StandIn(
        _TENSORFLOW_SERVING,
        "a stand-in for SageMaker's TensorFlow Serving image: TensorFlow under a server of this project",
        "tensorflow-inference",
    ),
    "sagemaker-inference-tensorflow": StandIn(
        _TENSORFLOW_SERVING,
        "a stand-in for SageMaker's image of models that Neo compiled: neither Neo's runtime nor TensorFlow Serving, "
        "but TensorFlow under a server of this project",
        "tensorflow-inference",
    ),
}
"""By the repository's name."""
NEO_COMPILER = "local_aws.stand_ins.neo"
"""The package that stands in for Neo's compiler, in the environment that has TensorFlow."""


def find(cache: Path, uri: str) -> Image | None:
    """The stand-in for an image of AWS's, with its environment made; None where there is none.

    Raises EnvironmentSetupError.
    """
    repository = uri.rpartition("/")[2].partition(":")[0]
    stand_in = STAND_INS.get(repository)
    if stand_in is None or ".dkr.ecr." not in uri:
        return None
    folder = _environment(cache, stand_in)
    command = (f"{folder}/bin/python", "-m", stand_in.package)
    return Image(str(ROOT), "/", command, {}, str(folder), stand_in.note)


def neo_compiler(cache: Path) -> tuple[str, ...]:
    """The command of the stand-in for Neo's compiler, with its environment made; raises EnvironmentSetupError."""
    python = _environment(cache, STAND_INS["tensorflow-inference"]) / "bin/python"
    return (str(python), "-m", NEO_COMPILER)


def _environment(cache: Path, stand_in: StandIn) -> Path:
    return environment(cache, stand_in.environment, stand_in.requirements, "--no-deps", compiled=False)
