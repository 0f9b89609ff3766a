"""The table of chunks says of a text what the tokenizer itself says, or leaves the text to it."""

import string
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from containers.serving.question_answering import wordpiece
from containers.serving.question_answering.windows import Windower, WindowLimits
from containers.serving.question_answering.wordpiece import WordPieceTable

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_letters, *string.digits, *string.punctuation]
VOCABULARY += [f"##{each}" for each in string.ascii_letters + "0123"]
VOCABULARY += ["the", "The", "un", "##aff", "##able", "ferry", "##'", "é", "caf"]


def tokenizer(*, lowercase: bool = True) -> Tokenizer:
    vocabulary = {piece: number for number, piece in enumerate(VOCABULARY)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return made


def with_normalized_token() -> Tokenizer:
    made = tokenizer()
    made.add_tokens(["new york"])
    return made


LOWER, CASED = tokenizer(), tokenizer(lowercase=False)
TABLES = [(LOWER, WordPieceTable.of(LOWER)), (CASED, WordPieceTable.of(CASED))]
TEXTS = st.one_of(
    st.text(st.characters(max_codepoint=127)),
    st.text(string.ascii_letters + string.digits + " .,'-\n\t\r"),
    st.text(),
    st.lists(
        st.sampled_from(
            ["The", "ferry", "unaffable", "[SEP]", "[sep]", "café", "ΑΣ", "日本", "9", "  ", ".", "\x00", "\u0301"]
        )
    ).map(" ".join),
)


@given(text=TEXTS, which=st.sampled_from(TABLES))
def test_tokens_and_their_characters_are_those_of_the_tokenizer(
    text: str, which: tuple[Tokenizer, WordPieceTable | None]
) -> None:
    library, table = which
    assert table is not None
    tokens, expected = table.tokens(text), library.encode(text, add_special_tokens=False)
    if tokens is not None:
        assert tokens.ids.tolist() == expected.ids
        assert tokens.offsets.tolist() == [list(each) for each in expected.offsets]


@given(st.text(st.characters(exclude_categories=["C", "Mn"]), min_size=1))
def test_only_added_tokens_and_chunks_without_a_token_are_left_to_the_tokenizer(text: str) -> None:
    tokens = WordPieceTable(LOWER, lowercase=True).tokens(text)
    assert tokens is not None or "[" in text or not all(LOWER.encode(part).ids for part in text.split(" "))


@pytest.mark.parametrize("text", ["a [SEP] b", "a \x00 b", "\u0301"])
def test_added_tokens_and_chunks_without_a_token_are_left_to_the_tokenizer(text: str) -> None:
    assert WordPieceTable(LOWER, lowercase=True).tokens(text) is None


@pytest.mark.parametrize(
    "other",
    [
        Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]")),
        Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")),
        with_normalized_token(),
    ],
)
def test_tokenizers_of_another_kind_have_no_table(other: Tokenizer) -> None:
    assert WordPieceTable.of(other) is None


def test_a_full_table_is_emptied_and_answers_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "_KNOWN_CHUNKS", 3)
    table = WordPieceTable(LOWER, lowercase=True)
    for text in ("the ferry", "unaffable a b c d e", "the unaffable ferry", "the ferry"):
        tokens = table.tokens(text)
        assert tokens is not None
        assert tokens.ids.tolist() == LOWER.encode(text, add_special_tokens=False).ids


def test_a_word_too_long_for_the_vocabulary_is_one_unknown_token() -> None:
    tokens = WordPieceTable(LOWER, lowercase=True).tokens(f"the {'x' * 101} ferry")
    assert tokens is not None
    assert tokens.ids.tolist() == [VOCABULARY.index("the"), 1, VOCABULARY.index("ferry")]
    assert tokens.offsets.tolist() == [[0, 3], [4, 105], [106, 111]]


def test_threads_that_share_a_table_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "_KNOWN_CHUNKS", 20)
    table = WordPieceTable(LOWER, lowercase=True)
    texts = [f"the ferry {number} unaffable{number % 7} a{number}b" for number in range(200)]
    expected = [LOWER.encode(text, add_special_tokens=False).ids for text in texts]
    failures: list[str] = []

    def work() -> None:
        for text, ids in zip(texts, expected, strict=True):
            tokens = table.tokens(text)
            if tokens is None or tokens.ids.tolist() != ids:
                failures.append(text)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_windows_are_the_same_whichever_way_their_text_goes(pairs: list[tuple[str, str]]) -> None:
    limits = WindowLimits(max_seq_length=32, doc_stride=8, max_query_length=8)
    fast, library = Windower(tokenizer(), limits), Windower(tokenizer(), limits)
    library._table = None
    for mine, theirs in zip(fast.windows_of_all(pairs), library.windows_of_all(pairs), strict=True):
        if isinstance(mine, Exception):
            assert str(mine) == str(theirs)
            continue
        assert isinstance(theirs, list)
        for one, other in zip(mine, theirs, strict=True):
            assert one.context_start == other.context_start
            for field in ("input_ids", "token_type_ids", "offsets"):
                assert getattr(one, field).tolist() == getattr(other, field).tolist()
