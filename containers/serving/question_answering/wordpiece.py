"""BERT's tokenization by lookup in a table, several times faster than the library's general method.

BERT splits at white space, and its normalization looks at no characters beyond it. So the text between two spaces
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
"""Most chunks in the table, about 8 MB. A full table is emptied: frequent chunks return at once, and tracking the order
of use would cost time."""
_LONGEST_CHUNK = 100
"""Most characters of a chunk in the table."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text's tokens: ids of shape (tokens,), and character ranges in the text, shape (tokens, 2), end exclusive."""

    ids: IntArray
    offsets: IntArray


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk's tokens, packed as int32: their ids, their character ranges in the chunk, and their number."""

    ids: bytes
    ranges: bytes
    count: int


_CHUNK = re.compile(r"[^ ]+")
_IDS, _RANGES, _COUNT = attrgetter("ids"), attrgetter("ranges"), attrgetter("count")


class WordPieceTable:
    """A table of chunks that gives the same tokens as the tokenizer; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, *, lowercase: bool) -> None:
        self._tokenizer, self._lowercase = tokenizer, lowercase
        self._added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._known: dict[str, _Chunk] = {}

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "WordPieceTable | None":
        """Return a table for a BERT tokenizer, or None for one that normalizes, splits or adds tokens differently."""
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
        """Return the tokens of a text, or None for a text that only the tokenizer can handle.

        That is a text with an added token, such as [SEP], which may span spaces, or with a chunk without tokens, such
        as a control character.
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
        added = {text: _packed(encoding) for text, encoding in zip(missing, encodings, strict=True)}
        if not all(chunk.count for chunk in added.values()):
            return None
        chunks = [added[text] if text in added else known[text] for text in texts]
        if len(known) + len(added) > _KNOWN_CHUNKS:
            self._known = known = {}
        known.update((text, chunk) for text, chunk in added.items() if len(text) <= _LONGEST_CHUNK)
        return chunks


def _packed(encoding: Encoding) -> _Chunk:
    ids, ranges = np.array(encoding.ids, dtype=np.int32), np.array(encoding.offsets, dtype=np.int32)
    return _Chunk(ids.tobytes(), ranges.tobytes(), len(ids))


def _unpacked(packed: Iterable[bytes]) -> IntArray:
    return np.frombuffer(b"".join(packed), dtype=np.int32).astype(np.int64)


def _starts(chunks: Sequence[str]) -> IntArray:
    """Return the position of each chunk in a text with single spaces between chunks."""
    lengths = np.fromiter(map(len, chunks), np.int64, len(chunks))
    lengths += 1
    starts = np.cumsum(lengths)
    starts -= lengths
    return starts
