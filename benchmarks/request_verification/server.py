"""The two servers to compare: `python -m benchmarks.request_verification.server PORT STATE [verify]`."""

import sys
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

from containers.serving.connections import BoundedHttpProtocol
from local_aws.authentication.credentials import CredentialStore
from local_aws.authentication.middleware import Authentication

HOST = "127.0.0.1"
_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}


async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read the whole body, like every handler of the account, and respond."""
    while (await receive()).get("more_body", False):
        pass
    await send(_START)
    await send({"type": "http.response.body", "body": b"ok"})


def main(arguments: list[str]) -> None:
    """Serve until the process is stopped, in the same way that hosting is served."""
    port = int(arguments[0])
    verified = Authentication(answer, CredentialStore(Path(arguments[1])), f"{HOST}:{port}")
    app = verified if arguments[2:] == ["verify"] else answer
    uvicorn.run(
        app, host=HOST, port=port, log_level="warning", access_log=False, lifespan="off", http=BoundedHttpProtocol
    )


if __name__ == "__main__":
    main(sys.argv[1:])
