"""The work of an INT8 BERT-base, to hold beside what the processor could do."""

_LINEAR, _QUADRATIC = 169_872_384, 36_864
"""Operations of BERT-base for a token and for a pair of tokens: twice the multiplications of twelve layers of width 768
with 3,072 inside, and of the answer's two outputs (24 * (4 * 768**2 + 2 * 768 * 3072) + 4 * 768, and 12 * 4 * 768)."""


def operations(length: int) -> int:
    """Multiplications and additions of one sequence of so many tokens."""
    return _LINEAR * length + _QUADRATIC * length**2
