"""What the running local account says of itself."""

import json
from pathlib import Path
from typing import Any

import httpx

from local_aws.account import LocalAccount, ProcessRecord

_SECONDS = 10.0


def endpoints(account: LocalAccount) -> list[dict[str, Any]]:
    """Return every endpoint with its variants and replicas, as hosting describes them.

    Raises KeyError where the account's key is gone; errors of httpx pass through.
    """
    response = httpx.get(f"{account.runtime_url}/_local/status", auth=account.auth(), timeout=_SECONDS, trust_env=False)
    found: list[dict[str, Any]] = response.raise_for_status().json()
    return found


def ready_servers(account: LocalAccount) -> dict[str, tuple[str, ...]]:
    """Return the URLs of the replicas that take requests, by endpoint; errors of httpx pass through."""
    return {
        endpoint["endpoint"]: tuple(
            f"http://127.0.0.1:{replica['port']}"
            for variant in endpoint["variants"]
            for replica in variant["replicas"]
            if replica["ready"]
        )
        for endpoint in endpoints(account)
    }


def processes(state: Path) -> list[ProcessRecord]:
    """Return the account's processes as its supervisor last wrote them; none where it has not."""
    try:
        return [ProcessRecord(**row) for row in json.loads((state / "processes.json").read_text())]
    except (OSError, ValueError):
        return []
