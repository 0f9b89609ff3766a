"""Parts of one-line messages, such as those of StartupError."""


def one_line(error: BaseException) -> str:
    """Return the first 300 characters of an exception's message without line breaks, or its type if it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
