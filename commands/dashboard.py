"""`inference local dashboard`: show the deployed dashboards with live data in a browser."""

import socket
import sys
from typing import Annotated

import typer
import uvicorn

from commands.account import State
from commands.output import fail
from containers.serving.connections import BoundedHttpProtocol
from local_aws.account import LocalAccount
from local_aws.dashboard.private_page import PrivatePage


def dashboard(
    state: State,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on the loopback interface; 0 picks a free one")] = 0,
) -> None:
    """Serve a page that draws the dashboards of the running local account, until interrupted.

    The printed address contains a token. Only someone with that address can read the page.
    """
    # The page reads its files when it is imported; no other command needs them.
    from local_aws.dashboard.page import create_app

    account = LocalAccount.read(state)
    if account is None:
        fail("no local account is running: run `inference local up`, then deploy something")
    try:
        app = create_app(account)
    except FileNotFoundError as error:
        fail(f"{error.filename} is missing: run `npm ci`")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            # A client may connect as soon as it has read the address.
            listener.listen()
        except OSError as error:
            fail(f"port is {port}: {error.strerror}; choose another, or 0 for a free one")
        page = PrivatePage(app, f"127.0.0.1:{listener.getsockname()[1]}")
        print(page.url, flush=True)
        print("the dashboards of the local account; stop with Ctrl-C", file=sys.stderr)
        server = uvicorn.Server(uvicorn.Config(page, log_level="warning", access_log=False, http=BoundedHttpProtocol))
        server.run(sockets=[listener])
