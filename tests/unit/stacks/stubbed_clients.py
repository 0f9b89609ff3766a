"""Clients of boto3 that answer what a test tells them to."""

import boto3
import pytest
from botocore.stub import Stubber


def stubbed(monkeypatch: pytest.MonkeyPatch, *services: str) -> dict[str, Stubber]:
    """Replace boto3's clients of these services, and return what to tell them, by service; no other can be made."""
    clients = {name: boto3.client(name, region_name="us-east-1") for name in services}  # type: ignore[call-overload]
    stubs = {name: Stubber(client) for name, client in clients.items()}
    for stub in stubs.values():
        stub.activate()
    monkeypatch.setattr(boto3, "client", clients.__getitem__)
    return stubs
