"""Images that the docker shim has pushed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from local_aws.account import write_json


@dataclass(frozen=True, slots=True)
class Image:
    """An image laid out as a folder: the settings of its Dockerfile's last stage, and its Python environment.

    container: its ID in Podman's store if Podman built it, and digest: that of its manifest; such an image has no
    folder and no environment. note: shown in every log and status if the image is not what its name says. installs:
    whether its containers install packages when they start.
    """

    rootfs: str
    workdir: str
    entrypoint: tuple[str, ...]
    environment: dict[str, str]
    venv: str
    note: str = ""
    container: str = ""
    digest: str = ""
    installs: bool = False

    def save(self, state: Path, name: str) -> None:
        """Record the image under a name: `repository:tag`, or a local tag."""
        write_json(_file(state, name), asdict(self))


def find(state: Path, uri: str) -> Image | None:
    """Return the image of an ECR URI (`registry/repository:tag`) or of a local tag, or None if there is none."""
    name = uri.partition("/")[2] if ".dkr.ecr." in uri else uri
    try:
        content = json.loads(_file(state, name).read_text())
    except OSError:
        return None
    return Image(**{**content, "entrypoint": tuple(content["entrypoint"])})


def _file(state: Path, name: str) -> Path:
    return state / "images" / f"{name.replace('/', '_').replace(':', '@')}.json"
