"""Number of operations of an INT8 BERT-base, for comparison with the processor's peak."""

_LINEAR, _QUADRATIC = 169_872_384, 36_864
"""Operations of BERT-base per token and per pair of tokens: twice the multiplications of twelve layers with width 768
and inner width 3,072, and of the two outputs (24 * (4 * 768**2 + 2 * 768 * 3072) + 4 * 768, and 12 * 4 * 768)."""


def operations(length: int) -> int:
    """Return the multiplications and additions for one sequence of `length` tokens."""
    return _LINEAR * length + _QUADRATIC * length**2
