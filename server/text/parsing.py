"""Pieces of a text as a tree-sitter parser reads them, and what the binding forgets to let go of.

py-tree-sitter (0.25.2 to 0.26.1 at least) keeps two references too many to every piece that a callback gives it, so
that what was read for one key after another would be kept for ever. A parse of the whole text in one piece keeps
none, but cannot be interrupted. So the references that are too many are dropped once the parser has returned, by
which time it needs no piece any more; of a binding that keeps none, none is dropped.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

from tree_sitter import Parser, Tree

# Shorter ones are Python's own, there once for ever.
LEAST = 2
_drop = ctypes.pythonapi.Py_DecRef
_drop.argtypes, _drop.restype = [ctypes.py_object], None


class Pieces:
    """What one call of a parser has read by `read`: (offset in bytes) -> the text from there on, empty at its end."""

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
        """The parser has returned: nobody but us holds a piece."""
        plain = bytes(LEAST + len(self._given))
        while self._given:
            piece = self._given.pop()
            for _ in range(sys.getrefcount(piece) - sys.getrefcount(plain)):
                _drop(piece)


def parse_in_pieces(
    parser: Parser, read: Callable[[int], bytes], old: Tree | None = None, stop: Callable[[], bool] = lambda: False
) -> Tree:
    """The tree of the text that `read` gives; `old` is that of an older text, told what moved.

    The parser calls back again and again: other threads have the interpreter meanwhile, and ValueError is raised where
    `stop` says so. The next call goes on from there unless the parser is reset.
    """
    pieces = Pieces(read)
    try:
        if old is None:
            return parser.parse(pieces, progress_callback=lambda *_: stop())
        return parser.parse(pieces, old, progress_callback=lambda *_: stop())
    finally:
        pieces.let_go()
