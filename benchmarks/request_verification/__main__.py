"""`python -m benchmarks.request_verification`: measure the latency that verifying signatures adds to a request."""

import http.client
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.command import ResultsOption, conclude, measuring, say
from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.request_verification.report import Line, VerificationResult
from benchmarks.servers import Program, running
from local_aws.authentication.credentials import DEPLOYER, Credential, CredentialStore
from local_aws.processes import free_port

_PATH = "/endpoints/demo/invocations"
_SIZES = {"InvokeEndpoint, 1 KiB": 2**10, "InvokeEndpoint, 64 KiB": 2**16, "InvokeEndpoint, 1 MiB": 2**20}
_JUDGED = 2**10
_RESIGN_EVERY = 200
"""Requests between new payloads and signatures, so caches do not decide the result."""


def main(
    requests: Annotated[int, typer.Option(min=100, help="requests of each size to each server")] = 3000,
    results: ResultsOption = Path(__file__).parent / "results",
) -> None:
    """Measure the latency that verification adds, compared with the same server without it.

    Exits with 1 when the target is missed, and with 2 when nothing could be measured.
    """
    with measuring(), tempfile.TemporaryDirectory(prefix="request-verification-") as name:
        state = Path(name)
        key = CredentialStore(state).issue(DEPLOYER)
        with (
            running(_program("the server that does not verify", state)) as plain,
            running(_program("the server that verifies", state, "verify")) as verified,
        ):
            machine = Machine.read()
            ports = (plain.target.port, verified.target.port)
            measured = tuple(_measured(key, ports, request, size, requests) for request, size in _SIZES.items())
    result = VerificationResult(machine=machine, measured=measured)
    conclude(result, result.record(results))


def _program(name: str, state: Path, *options: str) -> Program:
    port = free_port()
    return Program(
        name=name,
        command=(sys.executable, "-m", "benchmarks.request_verification.server", str(port), str(state), *options),
        variables=os.environ,
        port=port,
        folder=state,
        ready="/",
    )


def _measured(key: Credential, ports: tuple[int, int], request: str, size: int, count: int) -> Line:
    say(request)
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in ports]
    latencies: tuple[list[float], list[float]] = ([], [])
    body, headers = b"", [dict[str, str](), dict[str, str]()]
    for number in range(count + _RESIGN_EVERY):
        if number % _RESIGN_EVERY == 0:
            body = number.to_bytes(8, "big") * (size // 8)
            headers = [_signed(key, port, body) for port in ports]
        # The second server benefits from a warm processor, so their order alternates.
        for which in (0, 1) if number % 2 else (1, 0):
            began = time.perf_counter()
            connections[which].request("POST", _PATH, body, headers[which])
            response = connections[which].getresponse()
            response.read()
            elapsed = time.perf_counter() - began
            if response.status != 200:
                raise BenchmarkError(f"a server answers {response.status}")
            if number >= _RESIGN_EVERY:
                latencies[which].append(elapsed * 1e3)
    for connection in connections:
        connection.close()
    return Line(request, tuple(latencies[0]), tuple(latencies[1]), size == _JUDGED)


def _signed(key: Credential, port: int, body: bytes) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}{_PATH}"
    request = AWSRequest("POST", url, headers={"Content-Type": "application/octet-stream"}, data=body)
    SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "sagemaker", "us-east-1").add_auth(request)
    return dict(request.headers.items())


if __name__ == "__main__":
    typer.run(main)
