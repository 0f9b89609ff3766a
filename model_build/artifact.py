"""Pack a model folder and its manifest into `model.tar.gz`, and store artifacts in S3."""

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from tqdm import tqdm

from containers.serving.contract import MANIFEST_FILE, MODEL_ARCHIVE
from containers.serving.manifest import Manifest, sha256

SUMMARY_FILE = "summary.json"
FAILURE_FILE = "failure.json"
_COMPRESSION_LEVEL = 1
"""gzip level. Float weights hardly compress: level 9 takes ten times as long to save another two percent."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A packed archive.

    size: size in bytes.
    sha256: hash of the archive, in hex.
    manifest_sha256: hash of its manifest, in hex; empty for an archive without a manifest.
    """

    path: Path
    size: int
    sha256: str
    manifest_sha256: str = ""

    @classmethod
    def of(cls, path: Path, manifest: Manifest | None = None) -> "Artifact":
        """Return the artifact for an archive on disk."""
        manifest_hash = "" if manifest is None else hashlib.sha256(manifest.to_json()).hexdigest()
        return cls(path, path.stat().st_size, sha256(path), manifest_hash)

    def facts(self) -> dict[str, Any]:
        """Return the archive's entry in `summary.json`; deployments pass the hashes to the serving container."""
        hashes = {"sha256": self.sha256} | ({"manifest_sha256": self.manifest_sha256} if self.manifest_sha256 else {})
        return {"bytes": self.size, **hashes}


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file in a folder by relative path, except the manifest."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }


def pack(folder: Path, manifest: Manifest, output: Path) -> Artifact:
    """Write `output/model.tar.gz` from a folder and its manifest; equal inputs give equal bytes."""
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
    output.mkdir(parents=True, exist_ok=True)
    archive = output / MODEL_ARCHIVE
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=_COMPRESSION_LEVEL, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in tqdm(files, desc=f"pack {output.name}", unit="file"):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)
    return Artifact.of(archive, manifest)


class ArtifactStore:
    """One build's prefix in the artifact bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix.strip("/")
        self._s3 = boto3.client("s3")

    def upload(self, artifact: Artifact, name: str) -> None:
        """Upload an archive as `<prefix>/<name>/model.tar.gz`."""
        with tqdm(total=artifact.size, desc=f"upload {name}", unit="B", unit_scale=True) as progress:
            self._s3.upload_file(
                str(artifact.path), self._bucket, f"{self._prefix}/{name}/{MODEL_ARCHIVE}", Callback=progress.update
            )

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`; call it last, since its presence means that the build is complete."""
        self._write(SUMMARY_FILE, summary)

    def write_failure(self, message: str) -> None:
        """Write `failure.json`, which the deployment shows to the user."""
        self._write(FAILURE_FILE, {"message": message})

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self._s3.put_object(
            Bucket=self._bucket,
            Key=f"{self._prefix}/{name}",
            Body=json.dumps(content, indent=2, sort_keys=True).encode(),
            ContentType="application/json",
        )
