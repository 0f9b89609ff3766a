"""Package a build: write an archive per model and the load test's requests, and upload them."""

import csv
import gzip
import io
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import boto3
import boto3.exceptions
import botocore.exceptions
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from containers.tabular.features import FEATURES, MODEL_FILE, archive_name
from model_build.artifact import Artifact
from model_build.errors import BuildError
from model_build.tabular.data import Table

_UPLOADS_AT_ONCE = 8
"""Fewer than the ten connections in a boto3 client's pool."""
_CONTENT_TYPES = {".gz": "application/gzip", ".png": "image/png", ".csv": "text/csv"}


def pack_model(model: bytes, state: str, folder: Path) -> Artifact:
    """Write `folder/churn-xgb-<state>.tar.gz` with the model as its only file; equal models give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / archive_name(state)
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        entry = tarfile.TarInfo(MODEL_FILE)
        entry.size, entry.mode = len(model), 0o644
        tar.addfile(entry, io.BytesIO(model))
    return Artifact.of(archive)


def write_requests(table: Table, rows: NDArray[np.intp], predictions: NDArray[np.float32], path: Path) -> None:
    """Write a line per row: state, FEATURES, and `prediction`, the expected response of the state's model.

    Numbers have just enough digits to identify a 32-bit float.
    """
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["state", *FEATURES, "prediction"])
        for row, prediction in zip(rows, predictions, strict=True):
            lines.writerow([table.states[row], *map(_shortest, table.features[row]), _shortest(prediction)])


def upload(bucket: str, prefix: str, files: Mapping[str, Path]) -> None:
    """Upload files concurrently under `<prefix>/<name>`.

    Raises BuildError with the first object that cannot be written.
    """
    s3 = boto3.client("s3")
    with (
        ThreadPoolExecutor(_UPLOADS_AT_ONCE) as pool,
        tqdm(total=len(files), desc=f"upload to {bucket}", unit="file") as progress,
    ):
        keys = {
            pool.submit(
                s3.upload_file, str(path), bucket, key, ExtraArgs={"ContentType": _CONTENT_TYPES[path.suffix]}
            ): key
            for name, path in files.items()
            for key in [f"{prefix.strip('/')}/{name}"]
        }
        for done in as_completed(keys):
            try:
                done.result()
            except (
                boto3.exceptions.S3UploadFailedError,
                botocore.exceptions.BotoCoreError,
                botocore.exceptions.ClientError,
            ) as error:
                pool.shutdown(cancel_futures=True)
                raise BuildError(
                    f"s3://{bucket}/{keys[done]} cannot be written: {error}; "
                    "check that the bucket exists and that the build's role has s3:PutObject on the prefix"
                ) from error
            progress.update()


def _shortest(value: np.float32) -> str:
    return np.format_float_positional(value, unique=True, trim="-")
