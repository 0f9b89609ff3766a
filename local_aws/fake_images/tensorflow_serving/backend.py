"""Child processes of the container: model servers and workers of the Python service."""

import asyncio
import contextlib
from collections.abc import Sequence

import aiohttp

from local_aws.processes import die_with_parent

_RESTART_SECONDS = 1.0
_POLL_SECONDS = 0.05


class StartError(Exception):
    """A process ended before it was ready; its own last line says why."""


class Backend:
    """One child process that serves HTTP on loopback, restarted when it ends after its start.

    starts: how often it was started; each start loses what it held in memory.
    """

    def __init__(self, command: Sequence[str], port: int, environment: dict[str, str], ready_path: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.name = command[2].rpartition(".")[2]
        self.starts = 0
        self._command, self._environment, self._ready_path = command, environment, ready_path
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, client: aiohttp.ClientSession) -> None:
        """Start the process, and wait until it is ready; raise StartError."""
        process = await self._spawn()
        while not await self.ready(client):
            if process.returncode is not None:
                raise StartError(f"{self.name} ended with exit code {process.returncode} before it was ready")
            await asyncio.sleep(_POLL_SECONDS)

    async def keep(self) -> None:
        """Restart the process whenever it ends."""
        while self._process is not None:
            code = await self._process.wait()
            print(f"{self.name} ended with exit code {code}; restarting it", flush=True)
            await asyncio.sleep(_RESTART_SECONDS)
            await self._spawn()

    async def ready(self, client: aiohttp.ClientSession) -> bool:
        """Return whether the process is ready."""
        try:
            async with client.get(self.url + self._ready_path, timeout=aiohttp.ClientTimeout(total=2)) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Stop the process."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, preexec_fn=die_with_parent
        )
        return self._process
