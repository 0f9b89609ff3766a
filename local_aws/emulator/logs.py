"""CloudWatch Logs in the emulator: events are on disk, and expire as their group's retention says.

Source: the API reference of DescribeLogGroups, DescribeLogStreams and PutRetentionPolicy.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from local_aws import page_tokens
from local_aws.account import ACCOUNT_ID
from local_aws.emulator import telemetry
from local_aws.emulator.log_store import StreamEvents
from local_aws.emulator.ministack import logs
from local_aws.emulator.ministack.application import after_loading_state
from local_aws.emulator.ministack.logs import Event, Group, LogsError, Record, Stream
from local_aws.emulator.ministack.responses import region

Request = Mapping[str, Any]
_DAY_MS = 24 * 3600 * 1000
_MOST = 50
_appending = threading.Lock()


def _append(stream: Stream, events: list[Event]) -> None:
    """Append events to a stream, and keep its first and last timestamps."""
    if not events:
        return
    ordered = sorted(events, key=lambda event: int(event["timestamp"]))
    with _appending:
        held = _stored(stream)
        ids = telemetry.logs().append(held.stream, [_row(event) for event in ordered])
        first, last = ordered[0]["timestamp"], ordered[-1]["timestamp"]
        stream["firstEventTimestamp"] = min(first, stream["firstEventTimestamp"] or first)
        stream["lastEventTimestamp"] = max(last, stream["lastEventTimestamp"] or last)
        stream["lastIngestionTime"] = events[-1]["ingestionTime"]
    for event, event_id in zip(ordered, ids, strict=True):
        event["eventId"] = event_id


def _row(event: Event) -> tuple[int, int, str]:
    return int(event["timestamp"]), int(event["ingestionTime"]), str(event["message"])


def _stored(stream: Stream) -> StreamEvents:
    """Return a stream's events in the store, which take the place of MiniStack's empty list."""
    if "_stored" not in stream:
        stream["_stored"] = telemetry.logs().new_stream()
        stream["events"] = StreamEvents(telemetry.logs(), stream["_stored"])
    events: StreamEvents = stream["events"]
    return events


def _streams() -> Iterator[tuple[str, str, Stream]]:
    for group_name, group in logs.all_groups():
        for name, stream in list(group["streams"].items()):
            yield group_name, name, stream


def _find(event_id: str) -> Record | None:
    event = telemetry.logs().find(event_id)
    if event is None:
        return None
    for group, name, stream in _streams():
        if stream.get("_stored") == event.stream:
            return logs.record_of(group, name, event_id, event.timestamp, event.message)
    return None


def _attach() -> None:
    """Give streams of a saved state their events again, and forget those of streams that it does not have."""
    known = []
    for _, _, stream in _streams():
        if "_stored" in stream:
            stream["events"] = StreamEvents(telemetry.logs(), stream["_stored"])
            known.append(stream["_stored"])
    telemetry.logs().keep_only(known)


def expire(now: float) -> None:
    """Delete events past their group's retention, and those of deleted streams. now: in seconds since 1970."""
    for _, group in logs.all_groups():
        if days := group.get("retentionInDays"):
            for stream in list(group["streams"].values()):
                if "_stored" in stream:
                    telemetry.logs().expire(stream["_stored"], int(now * 1000) - days * _DAY_MS)
    with _appending:
        telemetry.logs().keep_only([stream["_stored"] for _, _, stream in _streams() if "_stored" in stream])


def _describe_groups(request: Request) -> dict[str, Any]:
    prefix, pattern = request.get("logGroupNamePrefix"), request.get("logGroupNamePattern")
    if prefix and pattern:
        raise LogsError(
            "InvalidParameterException", "LogGroup name prefix and LogGroup name pattern are mutually exclusive."
        )
    found = logs.groups()
    names = [
        name
        for name in sorted(found)
        if name.startswith(prefix or "") and (pattern or "").lower() in name.lower()
        and request.get("logGroupClass") in (None, _class_of(found[name]))
    ]  # fmt: skip
    shown, more = _page(names, request)
    return {"logGroups": [_describe_group(name, found[name]) for name in shown], **more}


def _class_of(group: Group) -> str:
    return group.get("logGroupClass") or "STANDARD"


def _describe_group(name: str, group: Group) -> dict[str, Any]:
    sizes = [telemetry.logs().size(each["_stored"]) for each in group["streams"].values() if "_stored" in each]
    return {
        "logGroupName": name,
        "arn": group["arn"],
        "logGroupArn": group["arn"].removesuffix(":*"),
        "creationTime": group["creationTime"],
        "storedBytes": sum(sizes),
        "metricFilterCount": logs.metric_filters(name),
        "logGroupClass": _class_of(group),
        **{key: group[key] for key in ("retentionInDays", "kmsKeyId") if group.get(key)},
    }


def _describe_streams(request: Request) -> dict[str, Any]:
    name = request.get("logGroupName") or str(request.get("logGroupIdentifier", "")).partition(":log-group:")[2]
    name = (name or request.get("logGroupIdentifier", "")).removesuffix(":*")
    group = logs.groups().get(name)
    if group is None:
        raise LogsError("ResourceNotFoundException", "The specified log group does not exist.")
    by_time, prefix = request.get("orderBy") == "LastEventTime", request.get("logStreamNamePrefix") or ""
    if by_time and prefix:
        raise LogsError("InvalidParameterException", "Cannot order by LastEventTime with a logStreamNamePrefix.")
    streams: dict[str, Stream] = group["streams"]
    names = sorted(each for each in streams if each.startswith(prefix))
    if by_time:
        names.sort(key=lambda each: streams[each]["lastEventTimestamp"] or 0)
    shown, more = _page(names[::-1] if request.get("descending") else names, request)
    return {"logStreams": [_describe_stream(name, each, streams[each]) for each in shown], **more}


def _describe_stream(group: str, name: str, stream: Stream) -> dict[str, Any]:
    times = ("firstEventTimestamp", "lastEventTimestamp", "lastIngestionTime")
    return {
        "logStreamName": name,
        "creationTime": stream["creationTime"],
        "uploadSequenceToken": stream["uploadSequenceToken"],
        "arn": f"arn:aws:logs:{region()}:{ACCOUNT_ID}:log-group:{group}:log-stream:{name}",
        # CloudWatch has not counted it per stream since 2019.
        "storedBytes": 0,
        **{key: stream[key] for key in times if stream.get(key) is not None},
    }


def _page(names: Sequence[str], request: Request) -> tuple[Sequence[str], dict[str, str]]:
    """Return the names of one page, and the token of the next one, if there is one."""
    most = int(request.get("limit") or _MOST)
    if not 1 <= most <= _MOST:
        raise LogsError(
            "InvalidParameterException",
            f"1 validation error detected: Value '{most}' at 'limit' failed to satisfy constraint: Member must have "
            f"value {'greater than or equal to 1' if most < 1 else f'less than or equal to {_MOST}'}",
        )
    try:
        first = page_tokens.decode(request.get("nextToken"))
    except ValueError as error:
        raise LogsError("InvalidParameterException", "The specified nextToken is invalid.") from error
    last = first + most
    more = {"nextToken": page_tokens.encode(last)} if last < len(names) else {}
    return names[first:last], more


def register() -> None:
    """Replace MiniStack's lists of events, and the operations that would count through all of them."""
    logs.replace_events(_append, _find)
    logs.replace_operation("DescribeLogGroups", _describe_groups)
    logs.replace_operation("DescribeLogStreams", _describe_streams)
    after_loading_state(_attach)
