"""Small additions to the emulator's S3 and ECR."""

import json
from collections.abc import Callable
from typing import Any

from ministack.services import ecr, s3
from ministack.services.cloudformation import provisioners

_describe_images = ecr._describe_images


def _describe_known_images(data: dict[str, Any]) -> Any:
    """Return ECR's error for an unknown tag; otherwise the CDK's command line would assume that the image exists."""
    name = data.get("repositoryName", "")
    if name in ecr._repositories:
        for identifier in data.get("imageIds") or []:
            if not ecr._find_image(name, identifier):
                message = f"The image with imageId {identifier} does not exist within the repository with name '{name}'"
                body = json.dumps({"__type": "ImageNotFoundException", "message": message}).encode()
                return 400, {"Content-Type": "application/x-amz-json-1.1"}, body
    return _describe_images(data)


def _with_tags(function: Callable[..., Any], properties_at: int) -> Callable[..., Any]:
    """Keep a bucket's tags, which the CDK's auto-delete handler reads before it empties a bucket."""

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        result = function(*arguments, **keywords)
        tags = arguments[properties_at].get("Tags")
        if tags:
            s3._bucket_tags[result[0]] = {tag["Key"]: tag["Value"] for tag in tags}
        return result

    return wrapped


def register() -> None:
    """Install the additions."""
    ecr._describe_images = _describe_known_images
    bucket = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    bucket["create"] = _with_tags(bucket["create"], 1)
    bucket["update"] = _with_tags(bucket["update"], 2)
