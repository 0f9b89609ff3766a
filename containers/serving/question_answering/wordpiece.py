"""BERT's tokenization by table, several times faster than the library's general way.

BERT splits at white space, and its normalization looks at no character beyond it: so what stands between two spaces
always has the same tokens. These chunks are looked up in a table that the library's own tokenizer fills.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

IntArray = npt.NDArray[np.int64]
_KNOWN_CHUNKS = 32_768
"""Chunks remembered, some 8 MB. A full table is emptied: what is frequent is back at once, and order costs nothing."""
_LONGEST_CHUNK = 100
"""Characters of a chunk that is remembered."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's tokens: ids of shape (tokens,), and their characters in the text, shape (tokens, 2), end exclusive."""

    ids: IntArray
    offsets: IntArray


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk's tokens, packed as int32: their ids, their ranges in the chunk, and how many there are."""

    ids: bytes
    ranges: bytes
    count: int


_CHUNK = re.compile(r"[^ ]+")
_IDS, _RANGES, _COUNT = attrgetter("ids"), attrgetter("ranges"), attrgetter("count")


class WordPieceTable:
    """Tokenizes as the tokenizer does; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, *, lowercase: bool) -> None:
        self._tokenizer, self._lowercase = tokenizer, lowercase
        self._added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._known: dict[str, _Chunk] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "WordPieceTable | None":
        """For a tokenizer of BERT's kind; None for one that normalizes, splits or finds added tokens in another way."""
        normalizer = tokenizer.normalizer
        if not (
            isinstance(normalizer, BertNormalizer)
            and normalizer.clean_text
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and isinstance(tokenizer.model, WordPiece)
            and not any(token.normalized for token in tokenizer.get_added_tokens_decoder().values())
        ):
            return None
        return cls(tokenizer, lowercase=normalizer.lowercase)

    def tokens(self, text: str) -> Tokens | None:
        """What the tokenizer makes of a text.

        None for one that holds an added token, such as [SEP], which may lie across spaces, or that has a chunk without
        any token, such as a control character.
        """
        if any(each in text for each in self._added):
            return None
        spaced = text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
        if self._lowercase and spaced.isascii():
            spaced = spaced.lower()
        texts = spaced.split(" ")
        if "" in texts:
            texts = [each for each in texts if each]
            starts = np.array([match.start() for match in _CHUNK.finditer(spaced)], dtype=np.int64)
        else:
            starts = _starts(texts)
        chunks = self._chunks(texts)
        if chunks is None:
            return None
        ids = _unpacked(map(_IDS, chunks))
        offsets = _unpacked(map(_RANGES, chunks)).reshape(-1, 2)
        if len(ids) != len(chunks):
            starts = np.repeat(starts, np.fromiter(map(_COUNT, chunks), np.int64, len(chunks)))
        offsets += starts[:, None]
        return Tokens(ids, offsets)

    def _chunks(self, texts: Sequence[str]) -> list[_Chunk] | None:
        known = self._known
        try:
            return [known[text] for text in texts]
        except KeyError:
            missing = [text for text in dict.fromkeys(texts) if text not in known]
        encodings = self._tokenizer.encode_batch(missing, add_special_tokens=False)
        found = {text: _packed(encoding) for text, encoding in zip(missing, encodings, strict=True)}
        if not all(chunk.count for chunk in found.values()):
            return None
        chunks = [found[text] if text in found else known[text] for text in texts]
        if len(known) + len(found) > _KNOWN_CHUNKS:
            self._known = known = {}
        known.update((text, chunk) for text, chunk in found.items() if len(text) <= _LONGEST_CHUNK)
        return chunks


def _packed(encoding: Encoding) -> _Chunk:
    ids, ranges = np.array(encoding.ids, dtype=np.int32), np.array(encoding.offsets, dtype=np.int32)
    return _Chunk(ids.tobytes(), ranges.tobytes(), len(ids))


def _unpacked(packed: Iterable[bytes]) -> IntArray:
    return np.frombuffer(b"".join(packed), dtype=np.int32).astype(np.int64)


def _starts(chunks: Sequence[str]) -> IntArray:
    """Where each chunk begins in a text that has one space between any two."""
    lengths = np.fromiter(map(len, chunks), np.int64, len(chunks))
    lengths += 1
    starts = np.cumsum(lengths)
    starts -= lengths
    return starts
