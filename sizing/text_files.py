"""Read hand-written text files: traces, prices, payloads, profiles, deployments."""

import codecs
from pathlib import Path

_OTHERS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", codecs.BOM_UTF32_LE: "UTF-32"}


class TextFileError(ValueError):
    """A file that is not text in UTF-8; the message names the file, the place and the fix."""


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8, without a byte order mark, with line ends as newlines.

    Raises TextFileError for another encoding and for NUL characters, and OSError.
    """
    return decode_text(path.read_bytes(), path.name)


def decode_text(content: bytes, name: str) -> str:
    """Return the text of a file's content as `read_text` does; `name` is for the message."""
    for mark, encoding in _OTHERS.items():
        if content.startswith(mark):
            raise TextFileError(f"{name} is in {encoding}: save it in UTF-8")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextFileError(
            f"{name} line {line}: byte 0x{content[error.start]:02x} is not UTF-8: save the file in UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise TextFileError(f"{name} line {line}: it has a NUL character, so it is not a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")
