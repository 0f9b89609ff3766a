"""Tokenizing on threads of its own: the event loop reads and writes while the tokenizer works without the GIL."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from containers.serving.question_answering.requests import Item
from containers.serving.question_answering.windows import ContextTooLongError, Window, Windower

_AT_ONCE = 16
"""Requests that a thread takes at most before it hands back: every hand-over costs the event loop a wake-up."""


@dataclass(frozen=True, slots=True)
class _Job:
    items: Sequence[Item]
    future: asyncio.Future[list[list[Window]]]


@dataclass(frozen=True, slots=True)
class _Done:
    job: _Job
    result: list[list[Window]] | Exception


class TokenizerThreads:
    """Cuts the questions of requests into windows; belongs to the event loop that it is made on."""

    def __init__(self, windower: Windower, threads: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._windower = windower
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    async def windows(self, items: Sequence[Item]) -> list[list[Window]]:
        """The windows of each item; raises ContextTooLongError."""
        job = _Job(items, self._loop.create_future())
        self._jobs.put(job)
        return await job.future

    async def close(self) -> None:
        """Ends the threads once what they were given is done."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            while len(jobs) < _AT_ONCE and not self._jobs.empty():
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    # Meant for a thread to end: this one, after what it holds.
                    self._jobs.put(None)
                    break
                jobs.append(following)
            self._loop.call_soon_threadsafe(_deliver, self._cut(jobs))

    def _cut(self, jobs: Sequence[_Job]) -> list[_Done]:
        try:
            cut = iter(self._windower.windows_of_all([(i.question, i.context) for job in jobs for i in job.items]))
            return [_Done(job, _joined([next(cut) for _ in job.items])) for job in jobs]
        except Exception as error:
            return [_Done(job, error) for job in jobs]


def _joined(found: Sequence[list[Window] | ContextTooLongError]) -> list[list[Window]] | Exception:
    windows = []
    for each in found:
        if isinstance(each, Exception):
            return each
        windows.append(each)
    return windows


def _deliver(done: Sequence[_Done]) -> None:
    for each in done:
        future = each.job.future
        if future.done():
            continue
        if isinstance(each.result, Exception):
            future.set_exception(each.result)
        else:
            future.set_result(each.result)
