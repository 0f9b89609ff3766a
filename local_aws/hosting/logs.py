"""Containers' output in CloudWatch Logs, where SageMaker puts it."""

import asyncio
import contextlib
import logging
import time
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
"""An event may have 256 KiB (PutLogEvents API reference) and a batch 1 MiB; a line of a log needs less."""


def log_group(name: str, *, component: bool = False) -> str:
    """The log group of an endpoint's containers, or of an inference component's."""
    return f"/aws/sagemaker/{LABEL if component else 'Endpoints'}/{name}"


class LogShipper:
    """Sends what replicas write to their log files on to the account, a stream for each replica.

    The files stay: `inference local logs` reads them even when the emulator is down.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sent: dict[Path, int] = {}
        self._streams: set[Path] = set()

    def skip_old(self) -> None:
        """Leaves out what an earlier hosting process has sent."""
        self._sent = {path: path.stat().st_size for path in self._files()}

    async def ship_forever(self) -> None:
        """Sends new lines once a period, for as long as the process runs."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await asyncio.to_thread(self.ship)
            except (ClientError, BotoCoreError, OSError) as error:
                # What was not taken is sent at the next turn.
                logger.warning("logs were not taken by the emulator: %s", error)

    def ship(self) -> None:
        """Sends every whole line that is new; raises botocore's errors."""
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
        *kind, name, variant, replica, _ = path.name.split(".")
        group, stream = log_group(name, component=bool(kind)), f"{variant}/{replica}"
        if path not in self._streams:
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_group(logGroupName=group)
            with contextlib.suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            self._streams.add(path)
        now = int(time.time() * 1000)
        lines = [line[:_MAX_EVENT_BYTES].decode(errors="replace") for line in content.splitlines() if line.strip()]
        for first in range(0, len(lines), _MAX_EVENTS):
            client.put_log_events(
                logGroupName=group,
                logStreamName=stream,
                logEvents=[{"timestamp": now, "message": line} for line in lines[first : first + _MAX_EVENTS]],
            )

    def _files(self) -> list[Path]:
        """Log files of replicas: `ENDPOINT.VARIANT.REPLICA.log`, names that have no dots themselves.

        Those of inference components have LABEL and the component's name in place of the endpoint's.
        """
        return [path for path in sorted(self._folder.glob("*.log")) if path.name.count(".") in (3, 4)]
