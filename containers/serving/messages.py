"""Parts of messages that are one line, as those of StartupError are."""


def one_line(error: BaseException) -> str:
    """Return the beginning of an exception's message without line breaks, or its type where it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
