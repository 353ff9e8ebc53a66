"""Parsing a text in pieces, without the memory that the binding leaks.

py-tree-sitter (0.25.2 to 0.26.1 at least) keeps two references too many to every piece that a callback returns: memory
would grow at every key. A parse of the whole text in one piece leaks nothing, but cannot be interrupted. So the excess
references are dropped once the parser has returned and needs no piece any more. A binding that leaks none loses none.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from tree_sitter import Parser, Tree

# Python keeps shorter ones itself, once for ever.
LEAST = 2
_drop = ctypes.pythonapi.Py_DecRef
_drop.argtypes, _drop.restype = [ctypes.py_object], None


class Pieces:
    """The pieces that one parse has read. `read`: (offset in bytes) -> the text from there on, empty at its end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._given: list[bytes] = []

    def __call__(self, offset: int, _: object) -> bytes:
        """See tree_sitter.Parser.parse."""
        # A copy, as a slice of all of a text is the text itself, which others hold.
        piece = memoryview(self._read(offset)).tobytes()
        if len(piece) >= LEAST:
            self._given.append(piece)
        return piece

    def let_go(self) -> None:
        """Drop the excess references; the parser has returned and needs no piece."""
        plain = bytes(LEAST + len(self._given))
        while self._given:
            piece = self._given.pop()
            for _ in range(sys.getrefcount(piece) - sys.getrefcount(plain)):
                _drop(piece)


def parse_in_pieces(
    parser: Parser, read: Callable[[int], bytes], old: Tree | None = None, stop: Callable[[], bool] = lambda: False
) -> Tree:
    """The tree of the text that `read` gives; `old` is an older text's tree, moved by the edits since.

    The parser calls back often, so other threads get the interpreter meanwhile. It raises ValueError once `stop` says
    so; the next call continues from there unless the parser is reset.
    """
    pieces = Pieces(read)
    try:
        if old is None:
            return parser.parse(pieces, progress_callback=lambda *_: stop())
        return parser.parse(pieces, old, progress_callback=lambda *_: stop())
    finally:
        pieces.let_go()
