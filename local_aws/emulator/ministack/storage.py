"""S3's buckets and ECR's images."""

from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import ecr, s3

from local_aws.emulator.ministack.responses import Response

DescribeImages = Callable[[dict[str, Any]], Response]
"""Handler of DescribeImages: takes the request."""


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
