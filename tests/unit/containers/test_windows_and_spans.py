"""Windows cut long contexts without losing a token; the span search finds what a brute-force search finds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from containers.serving.errors import ServingError
from containers.serving.question_answering.spans import best_spans
from containers.serving.question_answering.windows import (
    ContextTooLongError,
    EncoderBatch,
    RequestTooLongError,
    Window,
    Windower,
    WindowLimits,
    batches,
)

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(50))]


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def windower(**limits: int) -> Windower:
    return Windower(
        tokenizer(), WindowLimits(**{"max_seq_length": 32, "doc_stride": 8, "max_query_length": 8, **limits})
    )


def sentence(count: int) -> str:
    return " ".join(f"w{i % 50}" for i in range(count))


def test_a_short_context_is_one_unpadded_window_with_segment_ids() -> None:
    (window,) = windower().windows("w1 w2", "w3 w4 w5")
    assert window.input_ids.tolist() == [1, 5, 6, 2, 7, 8, 9, 2]
    assert window.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert window.offsets.tolist() == [[0, 2], [3, 5], [6, 8]]


@given(count=st.integers(0, 300), question=st.integers(1, 20))
def test_every_context_token_is_in_a_window_and_neighbours_overlap_by_the_stride(count: int, question: int) -> None:
    context = sentence(count)
    windows = windower().windows(sentence(question), context)
    covered = {tuple(offset) for window in windows for offset in window.offsets.tolist()}
    assert len(covered) == count
    assert all(len(window.input_ids) <= 32 for window in windows)
    for left, right in pairwise(windows):
        shared = {tuple(o) for o in left.offsets.tolist()} & {tuple(o) for o in right.offsets.tolist()}
        assert len(shared) == 8


def test_a_context_that_needs_too_many_windows_is_refused_with_the_size_that_fits() -> None:
    with pytest.raises(ContextTooLongError, match=r"context has 5000 tokens; at most \d+ fit"):
        windower().windows("w1", sentence(5000))


def test_a_stride_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="doc_stride is 30"):
        WindowLimits(max_seq_length=32, doc_stride=30, max_query_length=8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_seq_length", 10**9),
        ("max_seq_length", "32"),
        ("doc_stride", -1),
        ("max_query_length", 0),
        ("max_windows", 0),
    ],
)
def test_limits_that_cannot_be_are_refused_with_name_and_value(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value!r}: it must be a whole number from"):
        WindowLimits(**{name: value})  # type: ignore[arg-type]  # as a manifest may have it


def test_a_request_is_cut_until_it_needs_more_windows_than_it_may_have() -> None:
    pairs = [("w1", sentence(30))] * 3
    assert [len(windows) for windows in windower().windows_of_request(pairs, 6)] == [2, 2, 2]
    with pytest.raises(
        RequestTooLongError, match=r"the first 3 of 3 items need 6 windows .* a request may have at most 5"
    ) as raised:
        windower().windows_of_request(pairs, 5)
    assert (raised.value.code, raised.value.item) == ("too_many_windows", 2)


def test_a_tokenizer_without_bert_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="not a BERT tokenizer"):
        Windower(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), WindowLimits())


def test_padding_is_masked_and_rounds_up_to_the_bucket() -> None:
    short, long = windower().windows("w1", "w2")[0], windower().windows("w1", "w2 w3 w4")[0]
    batch = EncoderBatch.of([short, long], multiple_of=16)
    assert batch.input_ids.shape == (2, 16)
    assert batch.attention_mask.sum(axis=1).tolist() == [len(short.input_ids), len(long.input_ids)]
    assert batch.input_ids[0, len(short.input_ids) :].sum() == 0


def test_batches_hold_every_window_once_shortest_first() -> None:
    windows = [windower().windows("w1", sentence(n))[0] for n in (9, 3, 5, 1, 7)]
    grouped = list(batches(windows, 2))
    assert [len(group) for group in grouped] == [2, 2, 1]
    assert [row for group in grouped for row in group] == [3, 1, 2, 4, 0]


def window_of(context_tokens: int, start_char: int = 0) -> Window:
    offsets = np.array([[start_char + 2 * i, start_char + 2 * i + 1] for i in range(context_tokens)], dtype=np.int64)
    return Window(
        np.arange(context_tokens + 4), np.zeros(context_tokens + 4, dtype=np.int64), 3, offsets.reshape(-1, 2)
    )


@settings(deadline=None)
@given(data=st.data(), context_tokens=st.integers(1, 40), longest=st.integers(1, 12))
def test_the_best_span_is_the_one_that_brute_force_finds(
    data: st.DataObject, context_tokens: int, longest: int
) -> None:
    values = st.lists(st.integers(-50, 50), min_size=context_tokens + 4, max_size=context_tokens + 4)
    start, end = ((np.array(data.draw(values)) / 8).astype(np.float32) for _ in range(2))
    spans = best_spans([window_of(context_tokens)], [(start, end)], max_answer_length=longest).spans
    every = {
        (2 * i, 2 * j + 1): float(start[3 + i] + end[3 + j])
        for i in range(context_tokens)
        for j in range(i, min(context_tokens, i + longest))
    }
    assert spans[0].logit == pytest.approx(max(every.values()))
    assert all(every[span.start, span.end] == pytest.approx(span.logit) for span in spans)
    weights = {key: np.exp(value - spans[0].logit) for key, value in every.items()}
    assert spans[0].score == pytest.approx(weights[spans[0].start, spans[0].end] / sum(weights.values()))


def test_an_answer_never_lies_in_the_question_or_on_a_special_token() -> None:
    window = window_of(3)
    start, end = np.full(7, 9.0, dtype=np.float32), np.full(7, 9.0, dtype=np.float32)
    start[3:6], end[3:6] = 0, 0
    assert {(s.start, s.end) for s in best_spans([window], [(start, end)]).spans} <= {
        (0, 1),
        (0, 3),
        (0, 5),
        (2, 3),
        (2, 5),
        (4, 5),
    }


def test_overlapping_windows_give_each_character_range_once() -> None:
    logits = np.zeros(9, dtype=np.float32)
    spans = best_spans([window_of(5), window_of(5)], [(logits, logits), (logits + 1, logits)], n_best=50).spans
    assert len({(s.start, s.end) for s in spans}) == len(spans)
    assert spans[0].logit == 1


@settings(deadline=None)
@given(data=st.data(), sizes=st.lists(st.integers(1, 8), min_size=1, max_size=5), shared=st.integers(1, 3))
def test_each_character_range_counts_once_with_its_best_logit_in_candidates_and_mass(
    data: st.DataObject, sizes: list[int], shared: int
) -> None:
    tokens = sum(sizes)
    # Several tokens may have the same characters, as a decomposed syllable has.
    characters = np.array([[2 * (i // shared), 2 * (i // shared) + 1] for i in range(tokens)])
    windows, logits = [], []
    for first in np.cumsum([0, *sizes[:-1]]):
        last = data.draw(st.integers(first + 1, tokens))
        ids = np.arange(last - first + 4)
        windows.append(Window(ids, ids * 0, 3, characters[first:last], int(first)))
        values = st.lists(st.integers(-50, 50), min_size=len(ids), max_size=len(ids))
        logits.append(tuple((np.array(data.draw(values)) / 8).astype(np.float32) for _ in range(2)))
    found = best_spans(windows, logits, n_best=1000, max_answer_length=4).spans  # type: ignore[arg-type]
    best: dict[tuple[int, int], float] = {}
    for window, (start, end) in zip(windows, logits, strict=True):
        for i in range(len(window.offsets)):
            for j in range(i, min(len(window.offsets), i + 4)):
                key = int(window.offsets[i, 0]), int(window.offsets[j, 1])
                best[key] = max(best.get(key, -np.inf), float(start[3 + i] + end[3 + j]))
    assert {(span.start, span.end): span.logit for span in found} == pytest.approx(best)
    assert sum(span.score for span in found) == pytest.approx(1)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error_and_no_empty_answer(number: float) -> None:
    logits = np.zeros(9, dtype=np.float32)
    broken = logits.copy()
    broken[4] = number
    with pytest.raises(ServingError, match="not finite"):
        best_spans([window_of(5), window_of(5)], [(logits, logits), (broken, logits)])


def test_a_context_without_tokens_has_no_span() -> None:
    logits = np.zeros(4, dtype=np.float32)
    assert best_spans([window_of(0)], [(logits, logits)]).spans == []
