"""Changes of a file as a unified diff that `git apply` takes, byte for byte: any line ends, any encoding of names.

Lines end in LF alone, as git has it: a CR before it is a part of the line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

CONTEXT = 3
LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
# Bytes that git writes as they are in a name without quotes.
PLAIN_NAME = re.compile(rb"[ !#-\[\]-~]*")
UNFINISHED = b"\n\\ No newline at end of file\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Bytes [begin, end) of a file, and what replaces them."""

    begin: int
    end: int
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Lines [first, end) of a file, and those that replace them."""

    first: int
    end: int
    lines: Sequence[bytes]


def file_patch(name: str, data: bytes, changes: Sequence[Change]) -> bytes:
    """The diff of a file at a path below the patch's root; empty where nothing changes.

    The changes are in order and do not overlap.
    """
    lines = LINE.findall(data)
    blocks = [block for block in _blocks(data, lines, changes) if block.end > block.first or block.lines]
    if not blocks:
        return b""
    old, new = _quoted(b"a/", name), _quoted(b"b/", name)
    # A blank in a name would end it here, but for a tab.
    tab = b"\t" if " " in name else b""
    parts = [b"diff --git ", old, b" ", new, b"\n--- ", old, tab, b"\n+++ ", new, tab, b"\n"]
    shift = 0
    for hunk in _hunks(blocks):
        parts += _hunk(lines, hunk, shift)
        shift += sum(len(block.lines) - (block.end - block.first) for block in hunk)
    return b"".join(parts)


def _blocks(data: bytes, lines: Sequence[bytes], changes: Sequence[Change]) -> Iterator[_Block]:
    """The lines that change: one block for changes that share a line."""
    starts = [*accumulate(map(len, lines), initial=0)]
    # The end of a last line that has not ended is on that line.
    last = len(lines) - bool(lines and not lines[-1].endswith(b"\n"))

    def line_at(offset: int) -> int:
        return min(bisect_right(starts, offset) - 1, last)

    left = list(changes)
    while left:
        change = left.pop(0)
        first = line_at(change.begin)
        text = data[starts[first] : change.begin] + change.text
        end = min(line_at(change.end) + 1, len(lines))
        while left and (line_at(left[0].begin) < end or left[0].begin == change.end):
            at, change = change.end, left.pop(0)
            text += data[at : change.begin] + change.text
            end = min(line_at(change.end) + 1, len(lines))
        yield _trimmed(lines, first, end, LINE.findall(text + data[change.end : starts[end]]))


def _trimmed(lines: Sequence[bytes], first: int, end: int, new: list[bytes]) -> _Block:
    """A block without the lines at its beginning and end that stay."""
    while first < end and new and lines[first] == new[0]:
        first, new = first + 1, new[1:]
    while first < end and new and lines[end - 1] == new[-1]:
        end, new = end - 1, new[:-1]
    return _Block(first=first, end=end, lines=new)


def _hunks(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Blocks whose context would touch are one hunk."""
    hunk = [blocks[0]]
    for block in blocks[1:]:
        if block.first - hunk[-1].end > 2 * CONTEXT:
            yield hunk
            hunk = []
        hunk.append(block)
    yield hunk


def _hunk(lines: Sequence[bytes], blocks: Sequence[_Block], shift: int) -> Iterator[bytes]:
    """One hunk; `shift` is how many lines those before it have added."""
    first = at = max(0, blocks[0].first - CONTEXT)
    last = min(len(lines), blocks[-1].end + CONTEXT)
    before = last - first
    after = before + sum(len(block.lines) - (block.end - block.first) for block in blocks)
    yield b"@@ -%s +%s @@\n" % (_range(first, before), _range(first + shift, after))
    for block in blocks:
        yield from (_line(b" ", line) for line in lines[at : block.first])
        yield from (_line(b"-", line) for line in lines[block.first : block.end])
        yield from (_line(b"+", line) for line in block.lines)
        at = block.end
    yield from (_line(b" ", line) for line in lines[at:last])


def _range(first: int, count: int) -> bytes:
    return b"%d,%d" % (first + 1 if count else first, count)


def _line(sign: bytes, line: bytes) -> bytes:
    return sign + line + (b"" if line.endswith(b"\n") else UNFINISHED)


def _quoted(side: bytes, name: str) -> bytes:
    """A name as git writes it: in quotes, and in octal, where it has other bytes than printable ASCII."""
    raw = side + name.encode("utf-8", "surrogateescape")
    if PLAIN_NAME.fullmatch(raw):
        return raw
    return b'"' + b"".join(_escaped(byte) for byte in raw) + b'"'


def _escaped(byte: int) -> bytes:
    if byte in b'"\\':
        return b"\\%c" % byte
    return b"%c" % byte if 0x20 <= byte < 0x7F else b"\\%03o" % byte
