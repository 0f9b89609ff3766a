"""Small additions to the emulator's S3 and ECR."""

import json
from typing import Any

from local_aws.emulator.ministack import storage
from local_aws.emulator.ministack.resources import Properties, after_provisioning
from local_aws.emulator.ministack.responses import Response


def _refusing_unknown_tags(describe_images: storage.DescribeImages) -> storage.DescribeImages:
    """Return ECR's error for an unknown tag; otherwise the CDK's command line would assume that the image exists."""

    def describe(data: dict[str, Any]) -> Response:
        name = data.get("repositoryName", "")
        if storage.has_repository(name):
            for identifier in data.get("imageIds") or []:
                if not storage.has_image(name, identifier):
                    message = (
                        f"The image with imageId {identifier} does not exist within the repository with name '{name}'"
                    )
                    body = json.dumps({"__type": "ImageNotFoundException", "message": message}).encode()
                    return 400, {"Content-Type": "application/x-amz-json-1.1"}, body
        return describe_images(data)

    return describe


def _keep_tags(bucket: str, properties: Properties) -> None:
    """Keep a bucket's tags, which the CDK's auto-delete handler reads before it empties a bucket."""
    tags = properties.get("Tags")
    if tags:
        storage.set_bucket_tags(bucket, {tag["Key"]: tag["Value"] for tag in tags})


def register() -> None:
    """Install the additions."""
    storage.keep_bodies_on_disk()
    storage.wrap_describe_images(_refusing_unknown_tags)
    after_provisioning("AWS::S3::Bucket", _keep_tags)
