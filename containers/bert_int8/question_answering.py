"""Answers questions: windows, encoder, span search. The build's evaluation runs this very code."""

from collections.abc import Callable, Sequence

from containers.bert_int8.batching import LENGTH_BUCKET, Batcher
from containers.bert_int8.engines import EncoderEngine
from containers.serving.question_answering.answers import AnsweredQuestion, best_answer
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower


class QuestionAnswering:
    """The whole path from text to answers for one loaded encoder; safe to share between threads.

    load_lanes: makes engines of one core each, for when many ask; see Batcher.
    """

    def __init__(
        self, engine: EncoderEngine, windower: Windower, load_lanes: Callable[[], Sequence[EncoderEngine]] = tuple
    ) -> None:
        self._engine = engine
        self._batcher = Batcher(engine, load_lanes)
        self._windower = windower

    def warm_up(self) -> None:
        """Runs one row of every second bucketed length, since engines that pad prepare each shape when they see it.

        The others cost their first request some 30 ms, and all of them together half a second of the start. An engine
        that packs runs the longest row, for which it takes its memory.
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
            self._engine.infer(EncoderBatch.of([shortened], LENGTH_BUCKET))

    def answer(self, pairs: Sequence[tuple[str, str]]) -> list[AnsweredQuestion]:
        """Answers (question, context) pairs, in order.

        Raises ContextTooLongError. A context without any token has the empty answer with score 0.
        """
        cut = [self._windower.windows(question, context) for question, context in pairs]
        logits = self._batcher.infer([window for windows in cut for window in windows])
        answers: list[AnsweredQuestion] = []
        position = 0
        for (_, context), windows in zip(pairs, cut, strict=True):
            answers.append(best_answer(context, windows, logits[position : position + len(windows)]))
            position += len(windows)
        return answers
