"""Builds, runs and weighs one image."""

import gzip
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from local_aws.podman import sbom
from local_aws.podman.base_image import BaseImage
from local_aws.podman.build import Built, build
from local_aws.podman.engine import EngineError, Podman
from tests.images import load_test, serving
from tests.images.catalog import LOAD_TEST, Image
from tests.images.serving import Outcome

MAX_MB = {"encoder": 500}
"""The most that an image's layers may take, unpacked, in 10^6 bytes."""
_LEVEL = 6
_CHUNK = 1 << 20


@dataclass
class Report:
    """One image's figures. compressed: bytes of its layers as a registry keeps them; None where not measured."""

    name: str
    build_seconds: float = 0.0
    built: Built | None = None
    compressed: int | None = None
    packages: int = 0
    outcome: Outcome = field(default_factory=Outcome)


def examine(
    podman: Podman, base: BaseImage, image: Image, output: Path, *, weigh: bool, told: Callable[[str], None]
) -> Report:
    """Everything about one image; its bill of materials and its containers' output go to `output`."""
    report = Report(image.name)
    with tempfile.TemporaryDirectory(prefix=f"image-{image.name}-") as name:
        folder = Path(name)
        # Mounted into containers of another user.
        folder.chmod(0o755)
        try:
            _examine(podman, base, image, output, folder, report, weigh, told)
        except (EngineError, OSError, subprocess.TimeoutExpired) as error:
            report.outcome.wrong.append(str(error))
        for log in folder.glob("*.log"):
            shutil.copy(log, output / f"{log.name.replace(f'-{os.getpid()}', '')}")
    return report


def _examine(
    podman: Podman,
    base: BaseImage,
    image: Image,
    output: Path,
    folder: Path,
    report: Report,
    weigh: bool,
    told: Callable[[str], None],
) -> None:
    told("build")
    dockerfile = image.stage(folder / "context")
    began = time.monotonic()
    built = build(podman, base, folder / "context", dockerfile, f"localhost/{image.name}:checked", image.build_args)
    report.build_seconds, report.built = time.monotonic() - began, built
    told("run")
    if image.name == LOAD_TEST:
        report.outcome = load_test.check(podman, built.id, folder)
    else:
        report.outcome = serving.check(podman, image, built.id, folder)
    limit = MAX_MB.get(image.name)
    if limit is not None:
        report.outcome.must(built.bytes <= limit * 1e6, f"it takes {built.bytes / 1e6:.0f} MB, {limit} at the most")
    told("list what it holds")
    held = sbom.contents(podman, built.id)
    report.packages = held.packages
    (output / f"{image.name}.cdx.json").write_text(sbom.document(image.name, built, held))
    if weigh:
        told("compress")
        report.compressed = compressed_bytes(podman, built.id)


def compressed_bytes(podman: Podman, image_id: str) -> int:
    """Bytes of an image's layers under gzip, as a push makes them."""
    with subprocess.Popen(
        [podman.program, "save", "--quiet", image_id],
        env=podman.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        counter = _Counter()
        with gzip.GzipFile(fileobj=counter, mode="wb", compresslevel=_LEVEL) as packed:
            while chunk := process.stdout.read(_CHUNK):
                packed.write(chunk)
    if process.returncode:
        raise EngineError(f"podman save ended with exit code {process.returncode}")
    return counter.count


class _Counter:
    """A file that only counts what is written to it."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, data: bytes) -> int:
        """Counts; gives how many."""
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: there is nothing to write out."""
