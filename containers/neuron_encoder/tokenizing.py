"""Tokenizing on threads of its own: the event loop reads and writes while the tokenizer works without the GIL."""

import asyncio
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from containers.serving.question_answering.requests import MAX_WINDOWS, Item
from containers.serving.question_answering.windows import (
    ContextTooLongError,
    RequestTooLongError,
    Window,
    Windower,
    checked_windows,
)

_AT_ONCE = 16
"""Requests that a thread takes at most before it hands back: every hand-over costs the event loop a wake-up."""
_CHARACTERS_AT_ONCE = 32 * 1024
"""Characters after which a thread takes no more requests: a small one does not wait for several large ones. A request
of more is cut item by item, and no further than it may be."""


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
    """Cuts the questions of requests into windows; belongs to the event loop that it is made on."""

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
        """Ends the threads once what they were given is done."""
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
                    # Meant for a thread to end: this one, after what it holds.
                    self._jobs.put(None)
                    break
                jobs.append(following)
                characters += following.characters
            self._loop.call_soon_threadsafe(_deliver, self._cut(jobs))

    def _cut(self, jobs: Sequence[_Job]) -> list[_Done]:
        # A request that was cancelled while it waited needs no windows.
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
