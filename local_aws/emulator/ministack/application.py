"""MiniStack's web application: its services, its saved state, and its start."""

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import ministack.app as ministack_app
from ministack.core import router

from local_aws.emulator.ministack.responses import Response

Handle = Callable[[str, str, dict[str, str], bytes, dict[str, list[str]]], Awaitable[Response]]
"""Handler of a service: takes a request's method, path, headers, body and query."""
Application = Callable[..., Awaitable[None]]
"""An ASGI application."""
State = dict[str, Any]


def register_service(
    name: str,
    handle: Handle,
    *,
    target_prefixes: Sequence[str],
    host_patterns: Sequence[str],
    credential_scope: str | None = None,
) -> None:
    """Add or replace a service.

    A request belongs to the service if its X-Amz-Target starts with one of `target_prefixes`, if its host matches one
    of the regular expressions `host_patterns`, or if its signature names `credential_scope` as the service.
    """
    pattern: dict[str, Any] = {"target_prefixes": list(target_prefixes), "host_patterns": list(host_patterns)}
    if credential_scope is not None:
        pattern["credential_scope"] = credential_scope
    ministack_app.SERVICE_HANDLERS[name] = handle
    router.SERVICE_PATTERNS[name] = pattern


def register_state(name: str, *, save: Callable[[], State], load: Callable[[State], None]) -> None:
    """Include an extension's state in what MiniStack saves and loads; the name is also that of its file."""
    ministack_app._state_map[name] = name
    ministack_app._loaded_modules[name] = SimpleNamespace(get_state=save, load_persisted_state=load)


def save_state() -> None:
    """Save the state of all services; raise RuntimeError if a dictionary changes while it is copied."""
    ministack_app.save_all(ministack_app._build_persistence_save_dict())


def after_loading_state(follow_up: Callable[[], None]) -> None:
    """Call a function in the server's event loop once the state is loaded, before the first request."""
    load = ministack_app._load_persisted_state

    def load_and_follow_up() -> None:
        load()
        follow_up()

    ministack_app._load_persisted_state = load_and_follow_up


def serve(middleware: Callable[[Application], Application]) -> None:
    """Serve requests behind a middleware until the process is stopped."""
    ministack_app.app = middleware(ministack_app.app)
    ministack_app.main()
