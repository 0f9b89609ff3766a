"""S3 locations in every form that SageMaker takes: `s3://`, and HTTPS with the bucket in the path or in the host."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from local_aws.hosting.errors import ReportedError

_HOST = re.compile(r"^(?:(?P<bucket>.+)\.)?s3(?:[.-]dualstack)?(?:[.-][a-z]{2}[a-z-]*-\d)?\.amazonaws\.com(?:\.cn)?$")
"""Endpoints of S3 ("Amazon S3 endpoints and quotas"), optionally behind the name of a bucket."""


class LocationError(ReportedError):
    """A URL is not a location in S3."""


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, and an object's key or the prefix of several keys."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, url: str) -> "S3Location":
        """Parse a URL; raise LocationError for one that names no bucket of S3."""
        scheme, _, rest = url.partition("://")
        if scheme == "s3":
            bucket, _, key = rest.partition("/")
        elif scheme == "https":
            parts = urlsplit(url)
            bucket, key = _of_https(parts.hostname or "", unquote(parts.path).lstrip("/"))
        else:
            bucket, key = "", ""
        if not bucket:
            raise LocationError(
                f"{url[:1024]!r} is not a location in S3: write s3://BUCKET/KEY, "
                "https://s3.REGION.amazonaws.com/BUCKET/KEY or https://BUCKET.s3.REGION.amazonaws.com/KEY"
            )
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def _of_https(host: str, path: str) -> tuple[str, str]:
    """Return bucket and key; the bucket is empty for a host that is not S3's."""
    match = _HOST.match(host)
    if match is None:
        return "", ""
    if match["bucket"]:
        return match["bucket"], path
    bucket, _, key = path.partition("/")
    return bucket, key
