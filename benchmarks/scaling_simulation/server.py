"""A container of known behavior: it serves one request at a time, each for a log-normal random time."""

import math
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MEDIAN_SECONDS, SIGMA = 0.05, 0.3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Send headers and body in one packet; the second of two would wait for the first one's acknowledgement.
    wbufsize = -1
    worker = threading.Lock()

    def do_GET(self) -> None:
        """Answer /ping, even while a request is served."""
        self._answer(b"{}")

    def do_POST(self) -> None:
        """Answer /invocations, one request at a time."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.worker:
            time.sleep(MEDIAN_SECONDS * math.exp(SIGMA * random.gauss(0, 1)))
        self._answer(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, because thousands of lines would be a load of their own."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


if __name__ == "__main__":
    _Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), _Handler).serve_forever()
