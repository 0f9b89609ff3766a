"""The command `serve`: start one process per core group, keep them running, and proxy SageMaker's requests to them."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from containers.neuron_encoder.app import PROCESS_ID
from containers.neuron_encoder.monitor import NeuronMonitor
from containers.neuron_encoder.placement import Process
from containers.neuron_encoder.ports import free_port
from containers.neuron_encoder.reverse_proxy import ReverseProxy
from containers.neuron_encoder.upstream import NoAnswerError, Upstream, UpstreamError
from containers.serving.errors import StartupError
from containers.serving.loopback import HOSTS
from containers.serving.server import GRACE_SECONDS

VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
_BACKOFF_SECONDS = (0.5, 30.0)
"""First and longest wait before a process restarts; the wait doubles with each consecutive exit."""
_STEADY_SECONDS = 60.0
"""Seconds of running after which a process's count of consecutive exits is reset."""
_POLL_SECONDS = 0.05
_LOOK_SECONDS = 1.0
_METRICS_SECONDS = 5.0
_GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
logger = logging.getLogger("neuron_encoder")


class Child:
    """One process, restarted whenever it exits or does not respond for `hung_seconds`, until it is stopped."""

    def __init__(self, process: Process, command: Sequence[str], restarts: Counter, hung_seconds: float) -> None:
        self.process = process
        self._command, self._restarts, self._hung_seconds = command, restarts, hung_seconds
        self._port = process.port
        self.upstream = Upstream(f"core {process.visible_cores}", lambda: self._port)
        self._running: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._was_ready = False

    @property
    def pid(self) -> int | None:
        """Return the id of the running process, or None."""
        return self._running.pid if self._running else None

    async def run(self) -> None:
        """Run the process until `stop`; raises StartupError if it cannot serve and was never ready."""
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping:
                return
            if not self._was_ready and code == 1:
                raise StartupError(
                    f"the process of core {self.process.visible_cores} cannot serve; see its message above"
                )
            failures = 1 if time.monotonic() - began > _STEADY_SECONDS else failures + 1
            wait = min(_BACKOFF_SECONDS[1], _BACKOFF_SECONDS[0] * 2 ** (failures - 1))
            self._restarts.labels(self.process.visible_cores).inc()
            logger.error(
                "the process of core %s exited with code %d; it restarts in %.1f s",
                self.process.visible_cores, code, wait,
            )  # fmt: skip
            await asyncio.sleep(wait)

    async def _run_once(self) -> int:
        self._port = self.process.port or free_port()
        cores = f"{self.process.cores[0]}-{self.process.cores[-1]}"
        arguments = [*self._command, "core", cores, str(self._port), str(self.process.threads)]
        environment = {**os.environ, VISIBLE_CORES: self.process.visible_cores}
        self._running = running = await asyncio.create_subprocess_exec(*arguments, env=environment)
        watch = asyncio.create_task(self._watch())
        try:
            return await running.wait()
        finally:
            self.upstream.ready = False
            self.upstream.close()
            watch.cancel()

    async def _watch(self) -> None:
        request = _GET.format("/ping").encode()
        while True:
            try:
                reply = await self.upstream.ask(request, self._hung_seconds)
                if reply.status == 200 and f"{PROCESS_ID}: {self.pid}\r\n".encode() in reply.raw:
                    self._was_ready = self.upstream.ready = True
            except NoAnswerError:
                if self.upstream.ready and self._running is not None:
                    logger.error(
                        "the process of core %s did not respond for %g s; killing it",
                        self.process.visible_cores, self._hung_seconds,
                    )  # fmt: skip
                    self._running.kill()
                    return
            except UpstreamError:
                pass
            await asyncio.sleep(_LOOK_SECONDS if self.upstream.ready else _POLL_SECONDS)

    async def stop(self) -> None:
        """Terminate the process, which finishes its requests in flight; kill it if that takes too long."""
        self._stopping = True
        running = self._running
        if running is None or running.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            running.terminate()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await running.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                running.kill()
            await running.wait()


class Supervisor:
    """All processes of the container, and the reverse proxy in front of them.

    hung_seconds: seconds without a response after which a process is restarted.
    command: command that starts one process, without the arguments of that process.
    """

    def __init__(self, processes: Sequence[Process], hung_seconds: float, command: Sequence[str] | None = None) -> None:
        self._registry = CollectorRegistry()
        restarts = Counter(
            "neuron_encoder_process_restarts", "Unexpected exits of a process.", ["core"], registry=self._registry
        )
        self._monitor = NeuronMonitor()
        self._registry.register(self._monitor)
        line = command or (sys.executable, "-m", "containers.neuron_encoder")
        self.children = [Child(process, line, restarts, hung_seconds) for process in processes]
        for child in self.children:
            restarts.labels(child.process.visible_cores)
        cores = {str(core).encode(): child.upstream for child in self.children for core in child.process.cores}
        self.proxy = ReverseProxy([child.upstream for child in self.children], cores, self.metrics)

    async def run(self, host: str, port: int) -> None:
        """Serve until SIGTERM, then drain; raises StartupError if a process cannot serve."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for received in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(received, stop.set)
        self.proxy.loopback = host in HOSTS
        server = await loop.create_server(self.proxy.connection, host, port, backlog=512)
        runs = [asyncio.create_task(child.run()) for child in self.children]
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *runs], return_when=asyncio.FIRST_COMPLETED)
            await self._drain()
            for task in done:
                task.result()
        finally:
            server.close()
            await asyncio.gather(*(child.stop() for child in self.children))
            for task in (stopped, *runs):
                task.cancel()
            await asyncio.gather(stopped, *runs, return_exceptions=True)
            self._monitor.stop()

    async def _drain(self) -> None:
        self.proxy.draining = True
        deadline = time.monotonic() + GRACE_SECONDS
        while self.proxy.active and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)

    async def metrics(self) -> bytes:
        """Return the metrics of this process and of all that respond, in Prometheus' text format."""
        request = _GET.format("/metrics").encode()
        ready = [child.upstream for child in self.children if child.upstream.ready]
        replies = await asyncio.gather(
            *(upstream.ask(request, _METRICS_SECONDS) for upstream in ready), return_exceptions=True
        )
        texts = [
            reply.raw.partition(b"\r\n\r\n")[2].decode() for reply in replies if not isinstance(reply, BaseException)
        ]
        registry = CollectorRegistry()
        registry.register(_Merged(texts))
        return generate_latest(self._registry) + generate_latest(registry)


class _Merged(Collector):
    """A collector of the metric families of several texts, each family once with the samples of all texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def collect(self) -> list[Metric]:
        families: dict[str, Metric] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                # A counter's creation time adds nothing to its value.
                known.samples += [sample for sample in family.samples if not sample.name.endswith("_created")]
        return list(families.values())
