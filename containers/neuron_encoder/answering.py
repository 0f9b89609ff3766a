"""The path from a request's text to its answers: tokenizer, core, span search."""

import asyncio
from collections.abc import Sequence

from containers.neuron_encoder.scheduler import Scheduler
from containers.neuron_encoder.tokenizing import TokenizerThreads
from containers.serving.errors import ServingError
from containers.serving.question_answering.answers import AnsweredQuestion, Item, answers
from containers.serving.question_answering.requests import too_long_error
from containers.serving.question_answering.windows import RequestTooLongError

_INLINE_WINDOWS = 8
"""Requests with more windows search their spans on a thread, so they do not delay other requests."""


class Answering:
    """Question answering with any of the models of one core group.

    capacity: most requests of a model in flight; the next one gets a 503.
    """

    def __init__(self, tokenizer: TokenizerThreads, scheduler: Scheduler, *, models: int, capacity: int) -> None:
        self._tokenizer, self._scheduler, self._capacity = tokenizer, scheduler, capacity
        self._pending = [0] * models

    @property
    def models(self) -> int:
        """Return the number of models; they are numbered from 0."""
        return len(self._pending)

    @property
    def pending(self) -> int:
        """Return the number of requests in flight."""
        return sum(self._pending)

    def queued(self, model: int) -> int:
        """Return the number of windows of a model that wait for a batch."""
        return self._scheduler.waiting(model)

    def least_busy(self) -> int:
        """Return the model with the fewest requests in flight."""
        return min(range(len(self._pending)), key=self._pending.__getitem__)

    async def answer(self, model: int, items: Sequence[Item]) -> list[AnsweredQuestion]:
        """Return the answers in order; raises ServingError 400 for too long a context, 503 for a full queue."""
        if self._pending[model] >= self._capacity:
            raise ServingError(
                503,
                "overloaded",
                f"{self._pending[model]} requests of this model are in flight; try again later",
                retry_after_seconds=1,
            )
        self._pending[model] += 1
        try:
            try:
                cut = await self._tokenizer.windows(items)
            except RequestTooLongError as error:
                raise too_long_error(error, is_list=len(items) > 1) from error
            windows = [window for each in cut for window in each]
            logits = await self._scheduler.infer(model, windows)
            if len(windows) <= _INLINE_WINDOWS:
                return answers(items, cut, logits)
            return await asyncio.to_thread(answers, items, cut, logits)
        finally:
            self._pending[model] -= 1

    async def close(self) -> None:
        """Stop the threads."""
        await self._tokenizer.close()
        await self._scheduler.close()
