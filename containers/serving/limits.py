"""Connection limits of every server in the containers.

SageMaker's front end never reaches them: it reads whole requests of up to 6 MiB and sends each at once. They apply when
something else reaches a container's port: a load balancer, a test, or a client let in by a wrong network rule.
"""

import resource

MAX_HEAD_BYTES = 64 * 1024
"""Largest request line and headers; SageMaker's take about 1,500 bytes. Bytes beyond them in one read do not count."""
MAX_HEADERS = 128
HEAD_SECONDS = 10.0
"""Longest time from the start of a connection, or the first byte of a head, to the last byte of the head."""
BODY_SECONDS = 30.0
"""Longest time from the last byte of the head to the last byte of the body."""
IDLE_SECONDS = 75.0
"""Longest time that an idle connection stays open: longer than the 60 s of load balancers."""
WRITE_SECONDS = 60.0
"""Longest time for a client to read a response: as long as SageMaker waits for one."""
MAX_PIPELINED = 16
"""Most requests that a client may send before earlier responses. The connection closes after the last of them."""
DRAIN_SIZES = 8
"""Bytes of a refused body that are read and dropped before the connection closes, in multiples of MAX_BODY_BYTES."""
_MAX_CONNECTIONS = 4096


def max_connections() -> int:
    """Return the most connections of one server: half of the process's open-file limit, at most 4096."""
    return min(_MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
