"""Tokenization on separate threads: the event loop keeps serving while the tokenizer works without the GIL."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from containers.serving.question_answering.answers import Item
from containers.serving.question_answering.requests import MAX_WINDOWS
from containers.serving.question_answering.windows import (
    ContextTooLongError,
    RequestTooLongError,
    Window,
    Windower,
    checked_windows,
)

_AT_ONCE = 16
"""Most requests that a thread takes before it returns results: every return costs the event loop a wake-up."""
_CHARACTERS_AT_ONCE = 32 * 1024
"""Characters after which a thread takes no more requests, so a small one does not wait for several large ones. A
larger request is cut item by item, up to the limit on its windows."""


@dataclass(frozen=True, slots=True)
class _Job:
    items: Sequence[Item]
    future: asyncio.Future[list[list[Window]]]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return [(item.question, item.context) for item in self.items]

    @property
    def characters(self) -> int:
        return sum(len(item.question) + len(item.context) for item in self.items)


@dataclass(frozen=True, slots=True)
class _Done:
    job: _Job
    result: list[list[Window]] | Exception


class TokenizerThreads:
    """Threads that cut the questions of requests into windows; they belong to the event loop that creates them."""

    def __init__(self, windower: Windower, threads: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._windower = windower
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    async def windows(self, items: Sequence[Item]) -> list[list[Window]]:
        """Return the windows of each item; raises RequestTooLongError."""
        job = _Job(items, self._loop.create_future())
        self._jobs.put(job)
        return await job.future

    async def close(self) -> None:
        """Stop the threads after they finish their jobs."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs, characters = [job], job.characters
            while len(jobs) < _AT_ONCE and characters < _CHARACTERS_AT_ONCE and not self._jobs.empty():
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    # A stop signal: this thread takes it after its current jobs.
                    self._jobs.put(None)
                    break
                jobs.append(following)
                characters += following.characters
            self._loop.call_soon_threadsafe(_deliver, self._cut(jobs))

    def _cut(self, jobs: Sequence[_Job]) -> list[_Done]:
        # A request canceled while it waited needs no windows.
        jobs = [job for job in jobs if not job.future.done()]
        small = [job for job in jobs if job.characters < _CHARACTERS_AT_ONCE]
        large = [job for job in jobs if job.characters >= _CHARACTERS_AT_ONCE]
        try:
            cut = iter(self._windower.windows_of_all([pair for job in small for pair in job.pairs]))
            done = [_Done(job, _checked([next(cut) for _ in job.items])) for job in small]
        except Exception as error:
            done = [_Done(job, error) for job in small]
        return done + [_Done(job, self._cut_large(job)) for job in large]

    def _cut_large(self, job: _Job) -> list[list[Window]] | Exception:
        try:
            return self._windower.windows_of_request(job.pairs, MAX_WINDOWS)
        except Exception as error:
            return error


def _checked(cut: Sequence[list[Window] | ContextTooLongError]) -> list[list[Window]] | Exception:
    try:
        return checked_windows(cut, len(cut), MAX_WINDOWS)
    except RequestTooLongError as error:
        return error


def _deliver(done: Sequence[_Done]) -> None:
    for each in done:
        future = each.job.future
        if future.done():
            continue
        if isinstance(each.result, Exception):
            future.set_exception(each.result)
        else:
            future.set_result(each.result)
