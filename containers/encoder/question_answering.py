"""Question answering: windows, encoder, span search. The build's evaluation runs the same code."""

import sys
from collections.abc import Callable, Sequence

import numpy as np

from containers.encoder.batching import LENGTH_BUCKET, Batcher
from containers.encoder.engines import EncoderEngine
from containers.serving.cancellation import Cancellation
from containers.serving.question_answering.answers import AnsweredQuestion, Item, answers
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower


class QuestionAnswering:
    """The whole path from text to answers for one loaded encoder; safe to share between threads.

    load_lanes: returns single-core engines for concurrent requests; see Batcher.
    """

    def __init__(
        self, engine: EncoderEngine, windower: Windower, load_lanes: Callable[[], Sequence[EncoderEngine]] = tuple
    ) -> None:
        self._engine = engine
        self._batcher = Batcher(engine, load_lanes)
        self._windower = windower

    def warm_up(self) -> None:
        """Run one row of every second bucketed length, since engines that pad prepare each shape on first use.

        Each other length costs its first request about 30 ms; warming them too would add half a second to startup. An
        engine that packs runs only the longest row, which allocates its memory. Raises whatever the engine raises, and
        ValueError for logits that are not finite.
        """
        longest = self._windower.limits.max_seq_length
        window = self._windower.windows("warm", "warm " * longest)[0]
        first = longest if self._engine.packs else 2 * LENGTH_BUCKET
        for length in range(first, longest + 2 * LENGTH_BUCKET, 2 * LENGTH_BUCKET):
            cut = min(length, len(window.input_ids))
            shortened = Window(
                window.input_ids[:cut],
                window.token_type_ids[:cut],
                window.context_start,
                window.offsets[: max(0, cut - 4)],
            )
            start, end = self._engine.infer(EncoderBatch.of([shortened], LENGTH_BUCKET))
            if not (np.isfinite(start[0, :cut]).all() and np.isfinite(end[0, :cut]).all()):
                raise ValueError(f"its logits for {cut} tokens are not finite")

    def answer(
        self,
        items: Sequence[Item],
        *,
        max_windows: int = sys.maxsize,
        cancellation: Cancellation | None = None,
    ) -> list[AnsweredQuestion]:
        """Answer questions, in order.

        A context without tokens gives an empty answer with score 0. Raises ContextTooLongError for a single context
        that is too long, RequestTooLongError for items of more than `max_windows` windows, and ServingError for
        logits that are not finite and once the response is no longer needed.
        """
        pairs = [(item.question, item.context) for item in items]
        cut = self._windower.windows_of_request(pairs, max_windows)
        logits = self._batcher.infer([window for windows in cut for window in windows], cancellation)
        return answers(items, cut, logits)
