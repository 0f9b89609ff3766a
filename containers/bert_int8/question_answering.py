"""Answers questions: windows, encoder, span search. The build's evaluation runs this very code."""

from collections.abc import Callable, Sequence

from containers.bert_int8.engines import EncoderEngine
from containers.serving.question_answering.answers import AnsweredQuestion, best_answer
from containers.serving.question_answering.spans import FloatArray
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower, batches

LENGTH_BUCKET = 16
"""Rows are padded to a multiple of this many tokens, so that every shape can be warmed at start."""
MAX_BATCH = 8


class QuestionAnswering:
    """The whole path from text to answers for one loaded encoder."""

    def __init__(self, engine: EncoderEngine, windower: Windower) -> None:
        self._engine = engine
        self._windower = windower

    def warm_up(self) -> None:
        """Runs one row of every bucketed length, since engines prepare each new shape when they first see it."""
        longest = self._windower.limits.max_seq_length
        text = "warm " * longest
        rows = self._windower.windows("warm", text)[:1]
        for length in range(LENGTH_BUCKET, longest + LENGTH_BUCKET, LENGTH_BUCKET):
            window = rows[0]
            cut = min(length, len(window.input_ids))
            shortened = Window(
                window.input_ids[:cut],
                window.token_type_ids[:cut],
                window.context_start,
                window.offsets[: max(0, cut - 4)],
            )
            self._engine.infer(EncoderBatch.of([shortened], LENGTH_BUCKET))

    def answer(
        self, pairs: Sequence[tuple[str, str]], progress: Callable[[int], object] = lambda done: None
    ) -> list[AnsweredQuestion]:
        """Answers (question, context) pairs, in order; progress is told how many windows each step did.

        Raises ContextTooLongError. A context without any token has the empty answer with score 0.
        """
        cut = [self._windower.windows(question, context) for question, context in pairs]
        logits = self._logits([window for windows in cut for window in windows], progress)
        answers: list[AnsweredQuestion] = []
        position = 0
        for (_, context), windows in zip(pairs, cut, strict=True):
            answers.append(best_answer(context, windows, logits[position : position + len(windows)]))
            position += len(windows)
        return answers

    def _logits(self, windows: list[Window], progress: Callable[[int], object]) -> list[tuple[FloatArray, FloatArray]]:
        found: dict[int, tuple[FloatArray, FloatArray]] = {}
        for rows in batches(windows, MAX_BATCH):
            start, end = self._engine.infer(EncoderBatch.of([windows[row] for row in rows], LENGTH_BUCKET))
            for line, row in enumerate(rows):
                length = len(windows[row].input_ids)
                found[row] = (start[line, :length], end[line, :length])
            progress(len(rows))
        return [found[row] for row in range(len(windows))]
