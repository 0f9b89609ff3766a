"""What the LoadTestStack and those who run load tests on it agree about."""

CONTAINER = "load"
"""The one container of a task."""
STREAM_PREFIX = "load-test"
"""A task logs into the stream `STREAM_PREFIX/CONTAINER/<task id>` (awslogs-stream-prefix)."""
PORT = 5557
"""TCP; where workers find the master: Locust's own default."""
FOLDER = "load-tests"
"""Of the artifact bucket: plan, feed and result of every test, in a folder of its own."""
KEPT_DAYS = 30
"""For which that folder's objects stay."""
STOP_SECONDS = 30
"""From SIGTERM to SIGKILL when a task is stopped."""


def log_stream(task_arn: str) -> str:
    """The log stream of a task."""
    return f"{STREAM_PREFIX}/{CONTAINER}/{task_arn.rpartition('/')[2]}"
