"""Records of SageMaker's resources: created, read, tagged and deleted, and written to disk at every change."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_aws.account import ACCOUNT_ID, REGION, write_json
from local_aws.hosting import compilation, components, listing, pages
from local_aws.hosting.errors import ApiError

logger = logging.getLogger("control")
Document = dict[str, Any]
KINDS = {
    "Model": "model",
    "EndpointConfig": "endpoint-config",
    "Endpoint": "endpoint",
    components.KIND: "inference-component",
    compilation.KIND: "compilation-job",
}
"""Resource type in an ARN, by kind of record."""
_SAVE_SECONDS = 2.0
_TAGS = 50
"""Tags of a resource at most, and so the rows of a page."""


class RecordStore:
    """Every record and every tag, kept in one file.

    forgotten: called with kind and name after a record was removed.
    """

    def __init__(self, file: Path) -> None:
        self.forgotten: Callable[[str, str], None] = lambda _kind, _name: None
        self._file = file
        self._records: dict[str, dict[str, Document]] = {kind: {} for kind in KINDS}
        self._tags: dict[str, dict[str, str]] = {}

    def read(self) -> None:
        """Read what an earlier process wrote; no-op where there was none."""
        if not self._file.exists():
            return
        content = json.loads(self._file.read_text())
        self._records |= content["records"]
        self._tags = content["tags"]

    def all(self, kind: str) -> list[Document]:
        """Return every record of a kind."""
        return list(self._records[kind].values())

    def find(self, kind: str, name: str) -> Document | None:
        """Return a record, or None."""
        return self._records[kind].get(name)

    def get(self, kind: str, name: str) -> Document:
        """Return a record; raise ApiError in SageMaker's words."""
        record = self.find(kind, name)
        if record is None:
            noun = KINDS[kind].replace("-", " ")
            raise ApiError("ValidationException", f'Could not find {noun} "{_arn(kind, name)}".')
        return record

    def create(self, kind: str, request: Document) -> Document:
        """Create a record with an ARN and tags, and return the response; raise ApiError where it exists."""
        name = request[f"{kind}Name"]
        arn = _arn(kind, name)
        if name in self._records[kind]:
            noun = KINDS[kind].replace("-", " ")
            raise ApiError("ValidationException", f'Cannot create already existing {noun} "{arn}".')
        record = {key: value for key, value in request.items() if key != "Tags"}
        record |= {f"{kind}Arn": arn, "CreationTime": time.time()}
        self._records[kind][name] = record
        self._tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        self.save()
        return {f"{kind}Arn": arn}

    def forget(self, kind: str, name: str) -> None:
        """Remove a record."""
        del self._records[kind][name]
        self.save()
        self.forgotten(kind, name)

    def delete(self, kind: str, request: Document) -> Document:
        """Respond to a Delete operation; raise ApiError for a record that does not exist."""
        name = request[f"{kind}Name"]
        self.get(kind, name)
        self.forget(kind, name)
        return {}

    def describe(self, kind: str, request: Document) -> Document:
        """Respond to a Describe operation; raise ApiError for a record that does not exist."""
        return dict(self.get(kind, request[f"{kind}Name"]))

    def page(self, kind: str, request: Document) -> Document:
        """Respond to a List operation."""
        return listing.page(kind, self.all(kind), request)

    def add_tags(self, request: Document) -> Document:
        """Respond to AddTags."""
        self._tags.setdefault(request["ResourceArn"], {}).update({tag["Key"]: tag["Value"] for tag in request["Tags"]})
        self.save()
        return {"Tags": self._tag_rows(request["ResourceArn"])}

    def delete_tags(self, request: Document) -> Document:
        """Respond to DeleteTags."""
        for key in request["TagKeys"]:
            self._tags.get(request["ResourceArn"], {}).pop(key, None)
        self.save()
        return {}

    def list_tags(self, request: Document) -> Document:
        """Respond to ListTags."""
        rows = self._tag_rows(request["ResourceArn"])
        return pages.page("Tags", rows, request, size=_TAGS, error="ValidationException")

    def _tag_rows(self, arn: str) -> list[Document]:
        return [{"Key": key, "Value": value} for key, value in self._tags.get(arn, {}).items()]

    def save(self) -> None:
        """Write everything to disk; where that fails now, try again later."""
        try:
            write_json(self._file, {"records": self._records, "tags": self._tags})
        except FileNotFoundError:
            # The account was stopped, and its folder is gone.
            return
        except OSError as error:
            logger.warning("%s was not written; next try in %g s: %s", self._file, _SAVE_SECONDS, error)
            asyncio.get_running_loop().call_later(_SAVE_SECONDS, self.save)


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:{KINDS[kind]}/{name}"
