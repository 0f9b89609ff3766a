"""Model archives from the account's S3, extracted once each."""

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import urlparse

import boto3
from botocore.exceptions import BotoCoreError, ClientError


class ModelDataError(Exception):
    """A model archive cannot be had or is not one."""


def extracted(state: Path, url: str) -> Path:
    """The folder of an archive (`s3://bucket/key`); downloads and extracts it when it is new or has changed.

    Raises ModelDataError.
    """
    parsed = urlparse(url)
    s3 = boto3.client("s3")
    key = parsed.path.lstrip("/")
    try:
        tag = s3.head_object(Bucket=parsed.netloc, Key=key)["ETag"]
        final = state / "models" / hashlib.sha256(f"{url} {tag}".encode()).hexdigest()[:24]
        if not final.is_dir():
            partial = Path(tempfile.mkdtemp(dir=state / "tmp"))
            archive = partial / "model.tar.gz"
            s3.download_file(parsed.netloc, key, str(archive))
            (partial / "model").mkdir()
            with tarfile.open(archive) as tar:
                tar.extractall(partial / "model", filter="data")
            if not final.is_dir():
                (partial / "model").rename(final)
            shutil.rmtree(partial)
    except (ClientError, BotoCoreError) as error:
        raise ModelDataError(f"could not download model data from {url}: {error}") from error
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ModelDataError(f"{url} is not a readable model.tar.gz: {error}") from error
    return final
