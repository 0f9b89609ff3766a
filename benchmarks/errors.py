"""Errors that prevent a measurement."""


class BenchmarkError(RuntimeError):
    """Nothing could be measured; the message says why in one line."""
