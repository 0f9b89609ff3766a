"""Client of both servers."""

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.servers import Program, Server, running

_CSV = {"Content-Type": "text/csv", "Accept": "text/csv"}
_RESPONSE_SECONDS = 180.0
"""Time limit for a response; Multi Model Server gives a worker 120 s to start."""


class MultiModelClient:
    """One kept-alive connection to a server that follows SageMaker's multi-model contract, as both servers do."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.target.port, timeout=_RESPONSE_SECONDS)

    def load(self, name: str, folder: Path) -> None:
        """Load a model and return once it can respond; raises BenchmarkError."""
        body = json.dumps({"model_name": name, "url": str(folder)}).encode()
        self._request("POST", "/models", body, {"Content-Type": "application/json"})

    def invoke(self, name: str, body: bytes) -> bytes:
        """Return the response to CSV rows; raises BenchmarkError."""
        return self._request("POST", f"/models/{name}/invoke", body, _CSV)

    def unload(self, name: str) -> None:
        """Unload a model; raises BenchmarkError."""
        self._request("DELETE", f"/models/{name}", b"", {})

    def list_models(self, limit: int) -> bytes:
        """Return the first page of models; raises BenchmarkError."""
        return self._request("GET", f"/models?limit={limit}", b"", {})

    def ping(self) -> None:
        """Check that the server is healthy; raises BenchmarkError."""
        self._request("GET", "/ping", b"", {})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BenchmarkError(f"{method} {path}: {error}") from error
        if response.status != http.HTTPStatus.OK:
            raise BenchmarkError(f"{method} {path}: HTTP {response.status}: {content[:300].decode(errors='replace')}")
        return content


@contextlib.contextmanager
def connected(program: Program) -> Iterator[MultiModelClient]:
    """Run a server and connect to it until the block ends; raises BenchmarkError."""
    with running(program) as server, contextlib.closing(MultiModelClient(server)) as client:
        # This opens the connection, which would otherwise count for the first measured request.
        client.ping()
        yield client
