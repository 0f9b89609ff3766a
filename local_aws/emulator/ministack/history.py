"""Records that MiniStack keeps for as long as it runs, though AWS drops them, or nobody can read them."""

from datetime import UTC, datetime, timedelta

from ministack.services import cloudwatch, eventbridge, s3

_ALARM_HISTORY = timedelta(days=30)
"""How long CloudWatch keeps an alarm's history ("Using Amazon CloudWatch alarms")."""
_COMPLETED_UPLOADS = 100
"""Newest multipart uploads whose completion may be repeated."""


def forget(now: float) -> None:
    """Drop what is too old. now: in seconds since 1970."""
    for events in eventbridge._events_log.all_values():
        # EventBridge has delivered them, and no operation reads them.
        events.clear()
    oldest = (datetime.fromtimestamp(now, UTC) - _ALARM_HISTORY).strftime("%Y-%m-%dT%H:%M:%SZ")
    for entries in cloudwatch._alarm_history.all_values():
        entries[:] = [entry for entry in entries if entry["Timestamp"] >= oldest]
    uploads = s3._completed_multipart_uploads
    for key in uploads.keys()[:-_COMPLETED_UPLOADS]:
        uploads.pop(key, None)
