"""BERT's tokenization of plain ASCII text, several times faster than the library's general way.

Such text needs no Unicode normalization, and what stands between two spaces always has the same tokens. So these
chunks are looked up in a table that the library's own tokenizer fills; any other text goes through the library.
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
_ZERO = np.zeros(1, dtype=np.int64)
_IDS, _RANGES, _COUNT = attrgetter("ids"), attrgetter("ranges"), attrgetter("count")


class AsciiWordPiece:
    """Tokenizes plain text as the tokenizer does; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, *, lowercase: bool) -> None:
        self._tokenizer, self._lowercase = tokenizer, lowercase
        self._added = [token.content.lower() for token in tokenizer.get_added_tokens_decoder().values()]
        self._known: dict[str, _Chunk] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "AsciiWordPiece | None":
        """For a tokenizer of BERT's kind; None for one that normalizes or splits in another way."""
        normalizer = tokenizer.normalizer
        if not (
            isinstance(normalizer, BertNormalizer)
            and normalizer.clean_text
            and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
            and isinstance(tokenizer.model, WordPiece)
        ):
            return None
        return cls(tokenizer, lowercase=normalizer.lowercase)

    def tokens(self, text: str) -> Tokens | None:
        """What the tokenizer makes of a text; None for text that is not plain.

        Plain is printable ASCII and white space, without any of the tokenizer's added tokens, such as [SEP].
        """
        plain = text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
        if not plain.isascii() or not plain.isprintable():
            return None
        lowered = plain.lower()
        if any(each in lowered for each in self._added):
            return None
        if self._lowercase:
            plain = lowered
        texts = plain.split()
        chunks = self._chunks(texts)
        ids = _unpacked(map(_IDS, chunks))
        offsets = _unpacked(map(_RANGES, chunks)).reshape(-1, 2)
        starts = _starts(plain, texts)
        if len(offsets) != len(starts):
            starts = np.repeat(starts, np.fromiter(map(_COUNT, chunks), np.int64, len(chunks)))
        offsets += starts[:, None]
        return Tokens(ids, offsets)

    def _chunks(self, texts: Sequence[str]) -> list[_Chunk]:
        known = self._known
        try:
            return [known[text] for text in texts]
        except KeyError:
            missing = [text for text in dict.fromkeys(texts) if text not in known]
        encodings = self._tokenizer.encode_batch(missing, add_special_tokens=False)
        found = {text: _packed(encoding) for text, encoding in zip(missing, encodings, strict=True)}
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


def _starts(text: str, chunks: Sequence[str]) -> IntArray:
    """Where each chunk begins in the text that it was split from."""
    if " ".join(chunks) != text:
        return np.array([match.start() for match in _CHUNK.finditer(text)], dtype=np.int64)
    ends = np.fromiter(map(len, chunks), np.int64, len(chunks))
    ends += 1
    return np.concatenate([_ZERO, np.cumsum(ends[:-1])]) if len(chunks) else ends
