"""Check that a file is a complete shared library for this processor; loading a truncated one crashes the process."""

import struct
from pathlib import Path
from typing import NamedTuple

_HEADER, _SEGMENT = struct.Struct("<4sBB10xHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_SHARED_OBJECT, _X86_64, _LOADED, _DYNAMIC = 3, 62, 1, 2
"""Values of e_type, e_machine and p_type (System V ABI, "Object Files")."""
_HEAD_BYTES = 64 * 1024
"""Bytes read from the start of the file, where linkers put the headers."""


class _Header(NamedTuple):
    magic: bytes
    bits: int
    byte_order: int
    kind: int
    machine: int
    version: int
    entry: int
    segments_at: int
    sections_at: int
    flags: int
    size: int
    segment_size: int
    segments: int
    section_size: int
    sections: int
    names: int


def library_problem(path: Path) -> str:
    """Return the problem with a library for 64-bit x86, or an empty string; none of its code runs."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return f"is not in the model archive ({error.strerror})"
    if len(head) < _HEADER.size or head[:4] != b"\x7fELF":
        return "is not an ELF library"
    header = _Header(*_HEADER.unpack_from(head))
    if (header.bits, header.byte_order, header.kind, header.machine) != (2, 1, _SHARED_OBJECT, _X86_64):
        return (
            f"is not a library for 64-bit x86 (ELF class {header.bits}, byte order {header.byte_order}, "
            f"type {header.kind}, machine {header.machine})"
        )
    return _segments_problem(header, head, size)


def _segments_problem(header: _Header, head: bytes, size: int) -> str:
    end = header.segments_at + header.segments * _SEGMENT.size
    if header.segment_size != _SEGMENT.size or end > len(head):
        return "is damaged: it has no program headers"
    kinds = set()
    for at in range(header.segments_at, end, _SEGMENT.size):
        kind, _, begin, _, _, in_file, in_memory, _ = _SEGMENT.unpack_from(head, at)
        kinds.add(kind)
        if kind == _LOADED and in_file > in_memory:
            return "is damaged: a segment is larger in the file than in memory"
        if begin + in_file > size:
            return f"is truncated: it has {size} bytes of {begin + in_file}"
    return "" if {_LOADED, _DYNAMIC} <= kinds else "is damaged: it has no loadable or no dynamic segment"
