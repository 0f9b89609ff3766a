"""CloudWatch Logs' groups, streams and events."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ministack.services import cloudwatch_logs

from local_aws.emulator.ministack.responses import Response, error_response, json_response

Group = dict[str, Any]
"""A log group's record: its attributes, and its streams by name."""
Stream = dict[str, Any]
"""A log stream's record: its attributes, and its events in time order."""
Event = dict[str, Any]
"""A log event: its message, and its timestamp and ingestionTime in milliseconds since 1970."""
Record = dict[str, Any]
"""What GetLogRecord returns."""

_HANDLERS = {
    "DescribeLogGroups": cloudwatch_logs._describe_log_groups.__name__,
    "DescribeLogStreams": cloudwatch_logs._describe_log_streams.__name__,
}
"""Name of the function that handles an operation."""


class LogsError(ValueError):
    """A request that CloudWatch Logs refuses: the code of its error, and the message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Records(dict[str, Record]):
    """MiniStack's index of events by their ID, without the events.

    find: returns the record of an event, or None.
    """

    def __init__(self, find: Callable[[str], Record | None]) -> None:
        super().__init__()
        self._find = find

    def get(self, event_id: str, default: Any = None) -> Any:
        """Return the record of an event."""
        return self._find(event_id) or default

    def __setitem__(self, event_id: str, record: Record) -> None:
        """Drop the record: what is appended to the stream is enough."""

    def update(self, *_: Any, **__: Any) -> None:
        """Drop the records of a saved state, which are those of events without a store."""

    def __deepcopy__(self, _: object) -> dict[str, Record]:
        return {}


def replace_events(append: Callable[[Stream, list[Event]], None], find: Callable[[str], Record | None]) -> None:
    """Append events to a stream, and find an event's record by its ID, with these functions."""
    cloudwatch_logs._append_log_events = append
    cloudwatch_logs._log_records = _Records(find)


def replace_operation(name: str, respond: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Handle an operation with a function that takes the request and returns the response, or raises LogsError."""

    def handle(request: dict[str, Any]) -> Response:
        try:
            return json_response(respond(request))
        except LogsError as error:
            return error_response(error.code, str(error), 400)

    setattr(cloudwatch_logs, _HANDLERS[name], handle)


def groups() -> Mapping[str, Group]:
    """Return the log groups of the current account and region, by name."""
    return dict(cloudwatch_logs._log_groups.items())


def all_groups() -> Iterator[tuple[str, Group]]:
    """Yield the name and record of every log group in every region."""
    for (*_, name), group in cloudwatch_logs._log_groups.all_items():
        yield name, group


def metric_filters(group: str) -> int:
    """Return the number of a log group's metric filters."""
    return sum(name == group for name, _ in cloudwatch_logs._metric_filters)


def record_of(group: str, stream: str, event_id: str, timestamp: int, message: str) -> Record:
    """Return an event's record as Logs Insights and GetLogRecord do."""
    record: Record = cloudwatch_logs._build_log_record(
        ptr=event_id, timestamp_ms=timestamp, message=message, log_group=group, log_stream=stream
    )
    return record
