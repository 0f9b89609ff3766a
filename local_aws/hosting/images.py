"""The images that the docker stand-in has pushed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from local_aws.account import write_json


@dataclass(frozen=True, slots=True)
class Image:
    """An image laid out as a folder: what its Dockerfile's last stage says, and its Python environment.

    container: its id in Podman's store, where Podman built it, and digest that of its manifest; then there is no
    folder and no environment.
    note: what every log and status says of an image that is not what its name says.
    """

    rootfs: str
    workdir: str
    entrypoint: tuple[str, ...]
    environment: dict[str, str]
    venv: str
    note: str = ""
    container: str = ""
    digest: str = ""

    def save(self, state: Path, name: str) -> None:
        """Records the image under a name: `repository:tag`, or a local tag."""
        write_json(_file(state, name), asdict(self))


def find(state: Path, uri: str) -> Image | None:
    """The image of an ECR URI (`registry/repository:tag`) or of a local tag."""
    name = uri.partition("/")[2] if ".dkr.ecr." in uri else uri
    try:
        content = json.loads(_file(state, name).read_text())
    except OSError:
        return None
    return Image(**{**content, "entrypoint": tuple(content["entrypoint"])})


def _file(state: Path, name: str) -> Path:
    return state / "images" / f"{name.replace('/', '_').replace(':', '@')}.json"
