"""Names and limits shared by the LoadTestStack and the launcher of load tests."""

CONTAINER = "load"
"""Name of a task's only container."""
STREAM_PREFIX = "load-test"
"""Prefix of a task's log stream, `STREAM_PREFIX/CONTAINER/<task id>` (awslogs-stream-prefix)."""
PORT = 5557
"""TCP port of the master, to which workers connect: Locust's default."""
FOLDER = "load-tests"
"""Folder in the artifact bucket; each test has a subfolder with its plan, feed and result."""
KEPT_DAYS = 30
"""Days that objects in FOLDER are kept."""
STOP_SECONDS = 30
"""Seconds from SIGTERM to SIGKILL when a task is stopped."""


def log_stream(task_arn: str) -> str:
    """Return the name of a task's log stream."""
    return f"{STREAM_PREFIX}/{CONTAINER}/{task_arn.rpartition('/')[2]}"
