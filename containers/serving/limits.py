"""What a connection may take, in every server of the containers.

Behind SageMaker's front no client reaches these: it reads whole requests of up to 6 MiB and sends each at once. They
hold where something else reaches a container's port: a load balancer, a test, or a mistake in a network's rules.
"""

import resource

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers; SageMaker's own have some 1,500. What has arrived beyond it in one read is not counted."""
MAX_HEADERS = 128
HEAD_SECONDS = 10.0
"""From a connection's begin or a head's first byte to the head's last."""
BODY_SECONDS = 30.0
"""From a head's last byte to the body's last."""
IDLE_SECONDS = 75.0
"""Of a connection that is kept for another request: longer than load balancers keep theirs, which is 60."""
WRITE_SECONDS = 60.0
"""In which a client must have read a response: as long as SageMaker waits for one."""
MAX_PIPELINED = 16
"""Requests that a connection may send before earlier ones are answered. It is closed behind the last of them."""
DRAIN_SIZES = 8
"""Bytes of a refused body that are read and dropped, in multiples of MAX_BODY_BYTES, before the connection closes."""
_MAX_CONNECTIONS = 4096


def max_connections() -> int:
    """Connections of one server: half of the files that the process may open, and no more than 4096."""
    return min(_MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
