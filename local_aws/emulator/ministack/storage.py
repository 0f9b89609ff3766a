"""S3's buckets and objects, and ECR's images."""

import mmap
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import ecr, s3

from local_aws.emulator.ministack.responses import Response

DescribeImages = Callable[[dict[str, Any]], Response]
"""Handler of DescribeImages: takes the request."""
_UPLOADING = (s3._upload_part.__name__, s3._upload_part_copy.__name__)
"""Functions that add a part to an upload."""


def set_bucket_tags(bucket: str, tags: Mapping[str, str]) -> None:
    """Replace the tags of a bucket."""
    s3._bucket_tags[bucket] = dict(tags)


def has_repository(name: str) -> bool:
    """Return whether there is a repository of this name."""
    return name in ecr._repositories


def has_image(repository: str, identifier: dict[str, str]) -> bool:
    """Return whether a repository holds an image, given as one of a request's `imageIds`."""
    return bool(ecr._find_image(repository, identifier))


def wrap_describe_images(wrap: Callable[[DescribeImages], DescribeImages]) -> None:
    """Replace the handler of DescribeImages with what `wrap` returns for it."""
    ecr._describe_images = wrap(ecr._describe_images)


def keep_bodies_on_disk() -> None:
    """Keep the bodies of versions and of uploaded parts on disk only, as MiniStack does with current objects."""
    persist = s3._persist_object

    def persist_and_release(bucket: str, key: str, record: Any) -> None:
        persist(bucket, key, record)
        # MiniStack drops an object's body once its file is written, and finds that of a version without one.
        if isinstance(record, dict) and record["body"] is None:
            for version in s3._object_versions.get((bucket, key)) or []:
                version["data"] = None

    s3._persist_object = persist_and_release
    for name in _UPLOADING:
        setattr(s3, name, _releasing(getattr(s3, name)))


def _releasing(upload: Callable[..., Response]) -> Callable[..., Response]:
    """Return the function with the body of every part that it adds moved to disk."""

    def upload_and_release(*arguments: Any) -> Response:
        response = upload(*arguments)
        for each in s3._multipart_uploads.values():
            for part in each["parts"].values():
                if isinstance(part["body"], bytes):
                    part["body"] = _on_disk(part["body"])
        return response

    return upload_and_release


def _on_disk(body: bytes) -> bytes | mmap.mmap:
    """Return the content of a file without a name, which nobody else can open and no crash leaves behind."""
    if not body:
        return body
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
