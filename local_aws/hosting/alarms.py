"""States of the account's CloudWatch alarms."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient


class Alarms:
    """Reader of alarms by name, with one client."""

    @cached_property
    def _client(self) -> "CloudWatchClient":
        return boto3.client("cloudwatch")

    async def states(self, names: Sequence[str]) -> dict[str, str] | None:
        """Return the state of each alarm that exists, or None if CloudWatch does not respond."""
        try:
            return await asyncio.to_thread(self._read, list(names))
        except (ClientError, BotoCoreError):
            return None

    def _read(self, names: list[str]) -> dict[str, str]:
        response = self._client.describe_alarms(AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        states = [(alarm["AlarmName"], alarm["StateValue"]) for alarm in response["MetricAlarms"]]
        states += [(alarm["AlarmName"], alarm["StateValue"]) for alarm in response.get("CompositeAlarms", [])]
        return {name: str(state) for name, state in states}
