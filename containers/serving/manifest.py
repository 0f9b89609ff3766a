"""The manifest in every model archive, and the checks that a container makes against it."""

import hashlib
import hmac
import json
import logging
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from containers.serving.contract import MANIFEST_FILE, MANIFEST_HASH_VARIABLE
from containers.serving.cpu import instruction_sets
from containers.serving.errors import StartupError

SCHEMA_VERSION = 1
logger = logging.getLogger("serving")


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input of the model; -1 in the shape is a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class EngineVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The engine that the model was built for; the container must have the same version."""

    name: str
    version: str


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data that static quantization was calibrated on."""

    dataset: str
    samples: int
    seed: int


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Exact match and F1 in percent, and the number of questions they were measured on."""

    exact_match: float
    f1: float
    questions: int


class Accuracy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Accuracy of the FP32 model and of this artifact on the same questions.

    f1_ratio: artifact F1 / FP32 F1.
    gate: "99.9%" or "99%" as MLPerf states them, or "reference" for FP32.
    """

    dataset: str
    fp32: Scores
    artifact: Scores
    f1_ratio: float
    min_f1_ratio: float
    gate: Literal["reference", "99.9%", "99%", "passed"]


ROUNDING_TOLERANCE = 0.05
"""Largest difference of a score, 0 to 1, that is attributed to rounding."""


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request and the response that the artifact gave at build time, as JSON values.

    tolerance: largest difference, 0 to 1, that is attributed to another processor's rounding. The workload decides what
        is compared.
    """

    request: dict[str, Any]
    response: dict[str, Any]
    tolerance: float = ROUNDING_TOLERANCE


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An artifact's origin, accuracy and requirements.

    recipe: the build's settings as JSON values.
    instruction_sets_any_of: instruction sets; the processor must have at least one of them.
    accuracy: None for random weights, whose answers mean nothing.
    example: a request that the container must answer alike before it is healthy; None for random weights.
    files: sha256 in hex by path in the archive.
    """

    schema_version: int
    workload: str
    precision: str
    recipe: dict[str, Any]
    source: str
    engine: EngineVersion
    built_with: dict[str, str]
    inputs: tuple[Tensor, ...]
    instruction_sets_any_of: tuple[str, ...]
    calibration: Calibration | None
    accuracy: Accuracy | None
    example: Example | None = None
    files: dict[str, str]

    def to_json(self) -> bytes:
        """Return indented JSON with sorted keys: the same manifest always gives the same bytes."""
        return json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True).encode() + b"\n"


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        # Builds for Inf1 need Python 3.10, which has no hashlib.file_digest.
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def load_manifest(model_dir: Path, workload: str) -> Manifest:
    """Read the manifest and verify it, every file in the archive, the workload and the instruction sets.

    The manifest must match the hash that the deployment passes in MODEL_MANIFEST_SHA256. An attacker who can replace a
    file can replace the manifest too, but not that hash. Raises StartupError with one line: the problem and its fix.
    """
    path = model_dir / MANIFEST_FILE
    try:
        content = path.read_bytes()
        _check_manifest(content)
        manifest = msgspec.json.decode(content, type=Manifest)
    except OSError as error:
        raise StartupError(
            f"no {MANIFEST_FILE} in the model archive ({error.strerror}): build it with model_build"
        ) from error
    except msgspec.MsgspecError as error:
        raise StartupError(f"{MANIFEST_FILE} is not valid: {error}; rebuild the artifact") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise StartupError(
            f"{MANIFEST_FILE} has schema_version {manifest.schema_version}, "
            f"this image reads {SCHEMA_VERSION}: rebuild the artifact"
        )
    if manifest.workload != workload:
        raise StartupError(f"the artifact is for workload {manifest.workload!r}, this image serves {workload!r}")
    wanted = manifest.instruction_sets_any_of
    if wanted and not instruction_sets() & set(wanted):
        present = ", ".join(sorted(instruction_sets())) or "none known"
        raise StartupError(
            f"{manifest.precision} needs one of the instruction sets {', '.join(wanted)}; "
            f"this processor offers {present}: "
            "use an instance type that has one of them (C6i or newer) or the fp32 artifact"
        )
    _check_files(model_dir, manifest)
    return manifest


def _check_manifest(content: bytes) -> None:
    expected = os.environ.get(MANIFEST_HASH_VARIABLE, "").strip().lower()
    if not expected:
        logger.warning("%s is not set: %s is not verified", MANIFEST_HASH_VARIABLE, MANIFEST_FILE)
        return
    actual = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(actual, expected):
        raise StartupError(
            f"{MANIFEST_FILE} is not the one that was built: sha256 {actual}, {MANIFEST_HASH_VARIABLE} is "
            f"{expected[:64]}; deploy again, and find out who wrote to the artifact bucket"
        )


def _check_files(model_dir: Path, manifest: Manifest) -> None:
    """Require exactly the listed files, each with its hash: an unlisted file could be loaded too."""
    if not manifest.files:
        raise StartupError(f"{MANIFEST_FILE} lists no files, so the model cannot be verified: rebuild the artifact")
    try:
        present = _everything_in(model_dir)
        _compare(present, manifest.files)
    except (OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is nested too deeply"
        raise StartupError(f"cannot read the whole model archive: {reason}; upload the artifact again") from error


def _compare(present: dict[str, Path], listed: dict[str, str]) -> None:
    present.pop(MANIFEST_FILE, None)
    for name, expected in listed.items():
        file = present.pop(name, None)
        if file is None:
            raise StartupError(f"{name} is missing from the model archive: upload it again")
        if not file.is_file() or file.is_symlink():
            raise StartupError(f"{name} is not a regular file: upload the artifact again")
        if (actual := sha256(file)) != expected:
            raise StartupError(
                f"{name} is corrupt: sha256 {actual}, the manifest says {expected}; upload the artifact again"
            )
    if present:
        raise StartupError(
            f"{next(iter(present))} is in the model archive but not in its {MANIFEST_FILE}: upload the artifact again"
        )


def _everything_in(folder: Path) -> dict[str, Path]:
    """Return everything in a folder except folders, by relative path; raises OSError for an unreadable folder."""

    def fail(error: OSError) -> None:
        raise error

    paths = {}
    for parent, folders, files in os.walk(folder, onerror=fail):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for name in (*files, *links):
            path = Path(parent, name)
            paths[path.relative_to(folder).as_posix()] = path
    return dict(sorted(paths.items()))


def check_engine(manifest: Manifest, name: str, installed: str) -> None:
    """Raise StartupError unless the artifact was built for this engine and version."""
    if (manifest.engine.name, manifest.engine.version) != (name, installed):
        raise StartupError(
            f"the artifact was built for {manifest.engine.name} {manifest.engine.version}, "
            f"this image has {name} {installed}: "
            "rebuild the artifact or the image"
        )
