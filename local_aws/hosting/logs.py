"""Output of containers, sent to CloudWatch Logs under SageMaker's log group names."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local_aws.hosting.components import LABEL

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

logger = logging.getLogger("logs")
PERIOD_SECONDS = 1.0
_MAX_EVENTS = 1000
_MAX_EVENT_BYTES = 16 * 1024
"""Longest log line kept, in bytes; CloudWatch allows 256 KiB per event and 1 MiB per batch (PutLogEvents)."""


def log_group(name: str, *, component: bool = False) -> str:
    """Return the log group of an endpoint's containers, or of an inference component's."""
    return f"/aws/sagemaker/{LABEL if component else 'Endpoints'}/{name}"


class LogShipper:
    """Sender of the replicas' log files to the account, with one stream per replica.

    The files stay, so `inference local logs` can read them even if the emulator is down. serves: returns whether there
    is an endpoint of a name, or an inference component. A group that a stack deleted after its endpoint is not created
    again for the last lines of the replicas, since the next deployment would find its name taken.
    """

    def __init__(self, folder: Path, serves: Callable[[str, bool], bool]) -> None:
        self._folder, self._serves = folder, serves
        self._sent: dict[Path, int] = {}
        self._streams: set[Path] = set()

    def skip_old(self) -> None:
        """Skip what an earlier hosting process has already sent."""
        self._sent = {path: path.stat().st_size for path in self._files()}

    async def ship_forever(self) -> None:
        """Send new lines once per period, for as long as the process runs."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await asyncio.to_thread(self.ship)
            except (ClientError, BotoCoreError, OSError) as error:
                # Whatever was not accepted is sent in the next period.
                logger.warning("the emulator did not accept logs: %s", error)

    def ship(self) -> None:
        """Send all new complete lines; raise botocore's errors."""
        client: CloudWatchLogsClient | None = None
        for path in self._files():
            begin = self._sent.get(path, 0)
            with path.open("rb") as file:
                file.seek(begin)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if not whole:
                continue
            client = client or boto3.client("logs")
            self._send(client, path, whole)
            self._sent[path] = begin + len(whole)

    def _send(self, client: "CloudWatchLogsClient", path: Path, content: bytes) -> None:
        """Send lines to their group; drop them if it is gone."""
        *kind, name, variant, replica, _ = path.name.split(".")
        group, stream = log_group(name, component=bool(kind)), f"{variant}/{replica}"
        now = int(time.time() * 1000)
        lines = [line[:_MAX_EVENT_BYTES].decode(errors="replace") for line in content.splitlines() if line.strip()]
        try:
            if path not in self._streams:
                if self._serves(name, bool(kind)):
                    with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                        client.create_log_group(logGroupName=group)
                with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                    client.create_log_stream(logGroupName=group, logStreamName=stream)
                self._streams.add(path)
            for first in range(0, len(lines), _MAX_EVENTS):
                client.put_log_events(
                    logGroupName=group,
                    logStreamName=stream,
                    logEvents=[{"timestamp": now, "message": line} for line in lines[first : first + _MAX_EVENTS]],
                )
        except client.exceptions.ResourceNotFoundException:
            self._streams.discard(path)

    def _files(self) -> list[Path]:
        """Return the log files of replicas: `ENDPOINT.VARIANT.REPLICA.log`, where no name contains a dot.

        Files of inference components have LABEL and the component's name instead of the endpoint's.
        """
        return [path for path in sorted(self._folder.glob("*.log")) if path.name.count(".") in (3, 4)]
