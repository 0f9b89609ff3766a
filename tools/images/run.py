"""Build, run and measure one image."""

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
from tools.images import load_test, serving
from tools.images.catalog import LOAD_TEST, Image
from tools.images.serving import Outcome

MAX_MB = {"encoder": 500}
"""Limit on the unpacked size of an image's layers, in 10^6 bytes."""
_LEVEL = 6
_CHUNK = 1 << 20


@dataclass
class Report:
    """Measurements of one image. compressed: bytes of its layers in a registry; None if not measured."""

    name: str
    build_seconds: float = 0.0
    built: Built | None = None
    compressed: int | None = None
    packages: int = 0
    outcome: Outcome = field(default_factory=Outcome)


def examine(
    podman: Podman, base: BaseImage, image: Image, output: Path, *, weigh: bool, report_step: Callable[[str], None]
) -> Report:
    """Check one image, and write its bill of materials and its containers' output to `output`.

    weigh: whether to measure compressed sizes. report_step: called with the name of each step.
    """
    report = Report(image.name)
    with tempfile.TemporaryDirectory(prefix=f"image-{image.name}-") as name:
        folder = Path(name)
        # Mounted into containers that run as another user.
        folder.chmod(0o755)
        try:
            _examine(podman, base, image, output, folder, report, weigh, report_step)
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
    report_step: Callable[[str], None],
) -> None:
    report_step("build")
    dockerfile = image.stage(folder / "context")
    began = time.monotonic()
    built = build(podman, base, folder / "context", dockerfile, f"localhost/{image.name}:checked", image.build_args)
    report.build_seconds, report.built = time.monotonic() - began, built
    report_step("run")
    if image.name == LOAD_TEST:
        report.outcome = load_test.check(podman, built.id, folder)
    else:
        report.outcome = serving.check(podman, image, built.id, folder)
    limit = MAX_MB.get(image.name)
    if limit is not None:
        report.outcome.must(built.bytes <= limit * 1e6, f"it has {built.bytes / 1e6:.0f} MB: the limit is {limit} MB")
    report_step("list packages")
    held = sbom.contents(podman, built.id)
    report.packages = held.packages
    (output / f"{image.name}.cdx.json").write_text(sbom.document(image.name, built, held))
    if weigh:
        report_step("compress")
        report.compressed = compressed_bytes(podman, built.id)


def compressed_bytes(podman: Podman, image_id: str) -> int:
    """Return the gzip-compressed size of an image's layers in bytes, as a push would produce it."""
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
    """Writable file that only counts the bytes written to it."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, data: bytes) -> int:
        """Count the bytes, and return their number."""
        self.count += len(data)
        return len(data)

    def flush(self) -> None:
        """No-op: nothing is buffered."""
