"""S3 with a fault in it, between a local account and its emulator."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import httpx
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from local_aws.account import REGION

_SIGNED_ANEW = frozenset(
    {"host", "connection", "authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"}
)


class SlowStore:
    """S3 with a fault in it: a way to the emulator's that is late, fails, or breaks off in the middle of a body."""

    def __init__(self) -> None:
        self.behind = ""
        self.delay = 0.0
        self.mode = "whole"
        self.keys = ""
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                store.pass_on(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815 - BaseHTTPRequestHandler's names

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def pass_on(self, handler: BaseHTTPRequestHandler) -> None:
        sent = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        signed = self._signed(handler, sent)
        answer = httpx.request(
            handler.command, self.behind + handler.path, content=sent, headers=signed, trust_env=False, timeout=60
        )
        status, body, cut = answer.status_code, answer.content, False
        if self.keys and self.keys in handler.path:
            time.sleep(self.delay)
            if self.mode == "fails":
                status, body = 500, b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
            cut = self.mode == "cut" and handler.command == "GET"
        handler.send_response(status)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                handler.send_header(name, value)
        length = len(body) if handler.command != "HEAD" else int(answer.headers.get("content-length", 0))
        handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body[: len(body) // 2] if cut else body)
        handler.close_connection = cut

    def _signed(self, handler: BaseHTTPRequestHandler, body: bytes) -> dict[str, str]:
        """Sign a request anew, since its signature is for this store's own address."""
        kept = {name: value for name, value in handler.headers.items() if name.lower() not in _SIGNED_ANEW}
        request = AWSRequest(handler.command, self.behind + handler.path, headers=kept, data=body)
        key = boto3.Session().get_credentials()
        assert key is not None
        S3SigV4Auth(key, "s3", REGION).add_auth(request)
        return dict(request.headers.items())

    @contextlib.contextmanager
    def fault(self, keys: str, mode: str = "whole", delay: float = 0.0) -> Iterator[None]:
        """For objects whose key has that in it, for as long as the block runs."""
        self.keys, self.mode, self.delay = keys, mode, delay
        try:
            yield
        finally:
            self.mend()

    def mend(self) -> None:
        """Ends the fault."""
        self.keys, self.mode, self.delay = "", "whole", 0.0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
