"""Rows of the List operations: filtered, sorted and in pages."""

from collections.abc import Sequence
from typing import Any

from local_aws.hosting import compilation, components, pages

Document = dict[str, Any]
_STATUSES = {
    "Endpoint": "EndpointStatus",
    components.KIND: "InferenceComponentStatus",
    compilation.KIND: "CompilationJobStatus",
}
_PLURALS = {compilation.KIND: "CompilationJobSummaries"}
_MEMBERS = {components.KIND: ("EndpointName", "EndpointArn", "VariantName"), compilation.KIND: compilation.LISTED}


_PAGE = 100


def page(kind: str, records: Sequence[Document], request: Document) -> Document:
    """Return filtered, sorted summaries, newest first by default; raise ApiError for an invalid NextToken."""
    status = _STATUSES.get(kind, "")
    exact = {status: "StatusEquals", "EndpointName": "EndpointNameEquals", "VariantName": "VariantNameEquals"}
    rows = [
        record
        for record in records
        if request.get("NameContains", "") in record[f"{kind}Name"]
        and all(request.get(asked, record.get(member)) == record.get(member) for member, asked in exact.items())
        and _within(record, request, "CreationTime")
        and _within(record, request, "LastModifiedTime")
    ]
    by = {"Name": f"{kind}Name", "Status": status}.get(request.get("SortBy", "CreationTime"), "CreationTime")
    rows.sort(key=lambda record: record[by], reverse=request.get("SortOrder", "Descending") == "Descending")
    members = [f"{kind}Name", f"{kind}Arn", "CreationTime", "LastModifiedTime", status, *_MEMBERS.get(kind, ())]
    summaries = [{member: row[member] for member in members if member in row} for row in rows]
    return pages.page(_PLURALS.get(kind, f"{kind}s"), summaries, request, size=_PAGE, error="ValidationException")


def _within(record: Document, request: Document, member: str) -> bool:
    """Return whether a time of a record lies between the request's times before and after; both may be absent."""
    moment = record.get(member, record["CreationTime"])
    after, before = request.get(f"{member}After"), request.get(f"{member}Before")
    return bool((after is None or moment > after) and (before is None or moment < before))
