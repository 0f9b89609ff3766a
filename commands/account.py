"""Which account a command works on: the running local account, or the AWS account of the environment."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from load_tests.kinds.base import Reached
from local_aws.account import LocalAccount, default_cache, default_state, environment_variables
from local_aws.status import ready_servers

Deployment = Annotated[str, typer.Option("--deployment", help="name in deployments/, or path of a .yaml file")]
State = Annotated[
    Path,
    typer.Option("--state", default_factory=default_state, help="state folder of the local account"),
]
Cache = Annotated[Path, typer.Option("--cache", default_factory=default_cache, help="folder that survives `down`")]


@contextlib.contextmanager
def selected_account(state: Path) -> Iterator[LocalAccount | None]:
    """Point AWS clients at the local account of a state folder; without one, leave them at the environment's account.

    Yields None for AWS.
    """
    account = LocalAccount.read(state.absolute())
    if account is None:
        yield None
        return
    with environment_variables(account.environment()):
        yield account


def reached(account: LocalAccount | None, hosts: list[str] | None = None, *, by_path: bool = True) -> Reached:
    """Return how the account's servers are reached."""
    ready = None if account is None else lambda endpoint: ready_servers(account).get(endpoint, ())
    return Reached(ready=ready, hosts=tuple(hosts or ()), by_path=by_path)
