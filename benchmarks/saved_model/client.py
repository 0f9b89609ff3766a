"""Client of both servers."""

import http.client
import threading
import time

from load_tests.closed_loop import Request

_RESPONSE_SECONDS = 60.0
_IDLE_SECONDS = 1.0


class ImageClient:
    """A client of `/invocations`, with one kept-alive connection per thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def send(self, request: Request) -> bytes:
        """Return the response to an image; raises OSError or http.client.HTTPException unless it succeeds."""
        connection = self._connection()
        headers = {"Content-Type": request.content_type, "Accept": request.accept}
        try:
            connection.request("POST", "/invocations", request.body, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if response.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"HTTP {response.status}: {body[:300].decode(errors='replace')}")
        return body

    def _connection(self) -> http.client.HTTPConnection:
        """Return this thread's connection."""
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_RESPONSE_SECONDS)
            self._local.connection = connection
        elif time.monotonic() - self._local.used > _IDLE_SECONDS:
            # The connection reopens by itself; the server may have closed it in the meantime.
            connection.close()
        self._local.used = time.monotonic()
        return connection
