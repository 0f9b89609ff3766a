"""A container of known behaviour: one request at a time, each for a time drawn from a log-normal distribution."""

import math
import os
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MEDIAN_SECONDS, SIGMA = 0.05, 0.3


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet: the second of two would wait for the first's acknowledgement.
    wbufsize = -1
    worker = threading.Lock()

    def do_GET(self) -> None:
        """/ping, also while a request is served."""
        self._answer(b"{}")

    def do_POST(self) -> None:
        """/invocations, one at a time."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.worker:
            time.sleep(MEDIAN_SECONDS * math.exp(SIGMA * random.gauss(0, 1)))
        self._answer(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: thousands of lines would be the load."""

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
