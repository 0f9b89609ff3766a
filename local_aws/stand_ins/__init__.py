"""Stand-ins for AWS's own images, which cannot be had here: the same contract, other software, and said so."""

from dataclasses import dataclass
from pathlib import Path

from local_aws.account import ROOT
from local_aws.environments import environment
from local_aws.hosting.images import Image


@dataclass(frozen=True, slots=True)
class StandIn:
    """What runs in place of an image; note is what every log and table says of it."""

    package: str
    note: str

    @property
    def requirements(self) -> Path:
        """What its environment holds, all of it."""
        return ROOT / self.package.replace(".", "/") / "requirements.txt"


STAND_INS = {
    "tensorflow-inference": StandIn(
        "local_aws.stand_ins.tensorflow_serving",
        "a stand-in for SageMaker's TensorFlow Serving image: TensorFlow under a server of this project",
    ),
}
"""By the repository's name."""


def find(cache: Path, uri: str) -> Image | None:
    """The stand-in for an image of AWS's, with its environment made; None where there is none.

    Raises EnvironmentSetupError.
    """
    repository = uri.rpartition("/")[2].partition(":")[0]
    stand_in = STAND_INS.get(repository)
    if stand_in is None or ".dkr.ecr." not in uri:
        return None
    folder = environment(cache, repository, stand_in.requirements, "--no-deps")
    command = (f"{folder}/bin/python", "-m", stand_in.package)
    return Image(str(ROOT), "/", command, {}, str(folder), stand_in.note)
