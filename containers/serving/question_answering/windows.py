"""Cut a question and its context into the token windows that the encoder reads."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from containers.serving.errors import StartupError
from containers.serving.messages import one_line
from containers.serving.question_answering.wordpiece import Tokens, WordPieceTable

TokenArray = npt.NDArray[np.int64]


MAX_SEQ_LENGTH = 8192
"""Most tokens in one window, more than any BERT has positions; a window's cost grows with the square of its length."""
_PROBE = "warm \u2603 [UNK] zq9,"
"""Text with known and unknown words, on which an incomplete tokenizer fails."""


class RequestTooLongError(ValueError):
    """A request that needs too many windows.

    code: stable name for programs.
    item: index of the question that passed the limit.
    """

    code = "too_many_windows"

    def __init__(self, message: str, item: int = 0) -> None:
        super().__init__(message)
        self.item = item


class ContextTooLongError(RequestTooLongError):
    """A single context that needs too many windows."""

    code = "context_too_long"


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Limits for cutting a question and a context into windows.

    max_seq_length: most tokens in one window, special tokens included.
    doc_stride: tokens by which neighboring windows overlap, as in the Hugging Face examples (128 in the published
        recipe).
    max_query_length: most question tokens kept (64, as in the original BERT SQuAD script).
    max_windows: most windows for one context; longer contexts are refused.
    """

    max_seq_length: int = 384
    doc_stride: int = 128
    max_query_length: int = 64
    max_windows: int = 64

    def __post_init__(self) -> None:
        for name, least, most in (
            ("max_seq_length", 5, MAX_SEQ_LENGTH),
            ("doc_stride", 0, MAX_SEQ_LENGTH),
            ("max_query_length", 1, MAX_SEQ_LENGTH),
            ("max_windows", 1, 2**31),
        ):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}: it must be a whole number from {least} to {most}")
        smallest_context = self.max_seq_length - self.max_query_length - 3
        if not 0 <= self.doc_stride < smallest_context:
            raise ValueError(
                f"doc_stride is {self.doc_stride}: it must be at least 0 and less than {smallest_context}, "
                f"the context tokens left by max_seq_length={self.max_seq_length} and "
                f"max_query_length={self.max_query_length}"
            )


@dataclass(frozen=True, slots=True)
class Window:
    """One row for the encoder: `[CLS] question [SEP] context slice [SEP]`.

    input_ids, token_type_ids: int64, shape (tokens,).
    context_start: index of the first context token in `input_ids`.
    offsets: character range of each context token in the context; int64, shape (context tokens, 2).
    first_token: index of the window's first context token among all tokens of the context.
    question_truncated: whether the question had more tokens than `max_query_length`.
    """

    input_ids: TokenArray
    token_type_ids: TokenArray
    context_start: int
    offsets: TokenArray
    first_token: int = 0
    question_truncated: bool = False

    @property
    def context_slice(self) -> slice:
        """Return the slice of `input_ids` that holds the context tokens."""
        return slice(self.context_start, self.context_start + len(self.offsets))


class Windower:
    """A tokenizer that cuts question and context pairs into windows; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, limits: WindowLimits) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        cls_id, sep_id = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        if cls_id is None or sep_id is None:
            raise ValueError("tokenizer.json has no [CLS] or [SEP] token: it is not a BERT tokenizer")
        self._tokenizer = tokenizer
        self._cls, self._sep = np.array([cls_id], dtype=np.int64), np.array([sep_id], dtype=np.int64)
        self._table = WordPieceTable.of(tokenizer)
        self.limits = limits

    @classmethod
    def from_file(cls, path: Path, limits: WindowLimits) -> "Windower":
        """Read a `tokenizer.json`; raises StartupError for a file that is damaged or cannot tokenize."""
        try:
            windower = cls(Tokenizer.from_file(str(path)), limits)
            windower.windows(_PROBE, _PROBE)
        except BaseException as error:
            # A damaged file may make the library panic, and its PanicException is not an Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise StartupError(
                f"{path.name} is not a usable tokenizer ({one_line(error)}); upload the artifact again or rebuild it"
            ) from error
        return windower

    @property
    def words(self) -> int:
        """Return the rows that the model's embedding table must have: the highest token id plus one."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return 1 + max(vocabulary.values())

    def windows(self, question: str, context: str) -> list[Window]:
        """Cut one pair into windows; a context without tokens gives one window without context tokens.

        Raises ContextTooLongError if the context needs more than `max_windows` windows.
        """
        return self._cut(*self._tokens([question, context]))

    def windows_of_request(self, pairs: Sequence[tuple[str, str]], max_windows: int) -> list[list[Window]]:
        """Cut the pairs of one request, and stop at the one that passes the limit.

        Raises ContextTooLongError for a single context that is too long, and RequestTooLongError for more than
        `max_windows` windows in total.
        """
        return checked_windows((self._windows_or_error(*pair) for pair in pairs), len(pairs), max_windows)

    def _windows_or_error(self, question: str, context: str) -> "list[Window] | ContextTooLongError":
        try:
            return self.windows(question, context)
        except ContextTooLongError as error:
            return error

    def windows_of_all(self, pairs: Sequence[tuple[str, str]]) -> list[list[Window] | ContextTooLongError]:
        """Cut many pairs, releasing the GIL once for all of them; a pair that is too long gives its error instead."""
        tokens = self._tokens([text for pair in pairs for text in pair])
        results: list[list[Window] | ContextTooLongError] = []
        for question, context in zip(tokens[::2], tokens[1::2], strict=True):
            try:
                results.append(self._cut(question, context))
            except ContextTooLongError as error:
                results.append(error)
        return results

    def _tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text: from the table if it can, the others in one call of the tokenizer."""
        from_table = [self._table.tokens(text) if self._table is not None else None for text in texts]
        others = [text for text, tokens in zip(texts, from_table, strict=True) if tokens is None]
        encoded = iter(self._tokenizer.encode_batch(others, add_special_tokens=False) if others else ())
        return [_encoded(next(encoded)) if tokens is None else tokens for tokens in from_table]

    def _cut(self, question: Tokens, context: Tokens) -> list[Window]:
        limits = self.limits
        question_ids, context_ids, offsets = question.ids[: limits.max_query_length], context.ids, context.offsets
        room = limits.max_seq_length - len(question_ids) - 3
        step = room - limits.doc_stride
        count = 1 + max(0, -(-(len(context_ids) - room) // step))
        if count > limits.max_windows:
            most = room + (limits.max_windows - 1) * step
            raise ContextTooLongError(
                f"context has {len(context_ids)} tokens; at most {most} fit with this question. "
                "Split it into parts and ask about each part"
            )
        prefix = np.concatenate([self._cls, question_ids, self._sep])
        truncated = len(question.ids) > len(question_ids)
        windows = []
        for begin in range(0, count * step, step):
            input_ids = np.concatenate([prefix, context_ids[begin : begin + room], self._sep])
            token_type_ids = np.zeros(len(input_ids), dtype=np.int64)
            token_type_ids[len(prefix) :] = 1
            own = offsets[begin : begin + room]
            windows.append(Window(input_ids, token_type_ids, len(prefix), own, begin, truncated))
        return windows


def checked_windows(
    cut: Iterable[list[Window] | ContextTooLongError], items: int, max_windows: int
) -> list[list[Window]]:
    """Return the windows of one request's items; raises their errors, and RequestTooLongError over the limit.

    cut: windows or error of each item; consumed only until the limit is passed.
    items: number of items in the request.
    """
    accepted: list[list[Window]] = []
    count = 0
    for item, windows in enumerate(cut):
        if isinstance(windows, ContextTooLongError):
            windows.item = item
            raise windows
        accepted.append(windows)
        count += len(windows)
        if count > max_windows:
            raise RequestTooLongError(
                f"the first {item + 1} of {items} items need {count} windows of the encoder; a request may have at "
                f"most {max_windows}. Send fewer items or shorter contexts at once",
                item,
            )
    return accepted


def _encoded(encoding: Encoding) -> Tokens:
    ids, offsets = np.asarray(encoding.ids, dtype=np.int64), np.asarray(encoding.offsets, dtype=np.int64)
    return Tokens(ids, offsets.reshape(-1, 2))


@dataclass(frozen=True, slots=True)
class EncoderBatch:
    """Rows padded to a common length: int64 arrays, each of shape (rows, tokens)."""

    INPUTS: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "token_type_ids")

    input_ids: TokenArray
    attention_mask: TokenArray
    token_type_ids: TokenArray

    @classmethod
    def of(cls, windows: list[Window], multiple_of: int = 1) -> "EncoderBatch":
        """Pad windows with zeros (BERT's `[PAD]`) to a common multiple of `multiple_of`, and mask the padding."""
        longest = max(len(window.input_ids) for window in windows)
        shape = (len(windows), -(-longest // multiple_of) * multiple_of)
        input_ids, mask, types = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        for row, window in enumerate(windows):
            length = len(window.input_ids)
            input_ids[row, :length] = window.input_ids
            mask[row, :length] = 1
            types[row, :length] = window.token_type_ids
        return cls(input_ids, mask, types)

    def arrays(self) -> dict[str, TokenArray]:
        """Return the arrays by the names of BERT's inputs."""
        return dict(zip(self.INPUTS, (self.input_ids, self.attention_mask, self.token_type_ids), strict=True))


def batches(windows: list[Window], max_batch: int) -> Iterator[list[int]]:
    """Yield the indices of windows in groups of similar length, which need little padding."""
    order = sorted(range(len(windows)), key=lambda index: len(windows[index].input_ids))
    for begin in range(0, len(order), max_batch):
        yield order[begin : begin + max_batch]
