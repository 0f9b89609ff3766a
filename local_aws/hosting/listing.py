"""Pages of records, as the List operations return them."""

import base64
from collections.abc import Sequence
from typing import Any

from local_aws.hosting import compilation, components
from local_aws.hosting.errors import ApiError

Document = dict[str, Any]
_STATUSES = {
    "Endpoint": "EndpointStatus",
    components.KIND: "InferenceComponentStatus",
    compilation.KIND: "CompilationJobStatus",
}
_PLURALS = {compilation.KIND: "CompilationJobSummaries"}
_MEMBERS = {components.KIND: ("EndpointName", "EndpointArn", "VariantName"), compilation.KIND: compilation.LISTED}


def page(kind: str, records: Sequence[Document], request: Document) -> Document:
    """Return filtered, sorted summaries, newest first by default; raise ApiError for an invalid NextToken."""
    status = _STATUSES.get(kind, "")
    exact = {status: "StatusEquals", "EndpointName": "EndpointNameEquals", "VariantName": "VariantNameEquals"}
    rows = [
        record
        for record in records
        if request.get("NameContains", "") in record[f"{kind}Name"]
        and all(request.get(asked, record.get(member)) == record.get(member) for member, asked in exact.items())
    ]
    by = {"Name": f"{kind}Name", "Status": status}.get(request.get("SortBy", "CreationTime"), "CreationTime")
    rows.sort(key=lambda record: record[by], reverse=request.get("SortOrder", "Descending") == "Descending")
    begin = 0
    if token := request.get("NextToken"):
        try:
            begin = int(base64.b64decode(token))
        except ValueError:
            raise ApiError("ValidationException", "NextToken was not returned by this list") from None
    end = begin + int(request.get("MaxResults", 100))
    members = [f"{kind}Name", f"{kind}Arn", "CreationTime", "LastModifiedTime", status, *_MEMBERS.get(kind, ())]
    plural = _PLURALS.get(kind, f"{kind}s")
    response: Document = {plural: [{m: r[m] for m in members if m in r} for r in rows[begin:end]]}
    if end < len(rows):
        response["NextToken"] = base64.b64encode(str(end).encode()).decode()
    return response
