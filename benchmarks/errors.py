"""What keeps a benchmark from measuring."""


class BenchmarkError(RuntimeError):
    """Nothing could be measured; the message says why in one line."""
