"""tree-sitter trees kept beside the text, and the table of languages.

Trees are parsed from UTF-8 bytes read a hundred lines at a time; an edit re-reads only what the parser asks for.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import tree_sitter_python
from tree_sitter import Language, Node, Parser, Tree

if TYPE_CHECKING:
    from midspan.server.documents import Edit

# A call from the parser costs more than a few kilobytes.
LINES_A_READ = 100
# Text that does not parse can make the parser go through the whole file; nobody should wait for that at every key.
PATIENCE_S = 0.003  # of this thread's processor time
Surroundings = Literal["code", "string", "comment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """One language: its grammar, and the node types that are strings, comments, and code within a string."""

    load: Callable[[], object]
    strings: frozenset[str]
    comments: frozenset[str]
    interpolations: frozenset[str]


GRAMMARS = {
    "python": Grammar(
        load=tree_sitter_python.language,
        strings=frozenset({"string"}),
        comments=frozenset({"comment"}),
        interpolations=frozenset({"interpolation"}),
    ),
}


def syntax_of(language_id: str) -> Syntax | None:
    """A fresh tree for a language of the table; None for plain text."""
    grammar = GRAMMARS.get(language_id)
    return None if grammar is None else Syntax(grammar)


class Syntax:
    """The tree of one document."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._parser = Parser(Language(grammar.load()))
        self._tree: Tree | None = None

    def edit(self, edit: Edit) -> None:
        """Tell the old tree what moved."""
        if self._tree is not None:
            points = (edit.start_point, edit.old_end_point, edit.new_end_point)
            self._tree.edit(edit.start, edit.old_end, edit.new_end, *points)

    def forget(self) -> None:
        """The whole text was replaced."""
        self._tree = None

    def parse(self, lines: list[str], sizes: list[int]) -> None:
        """Bring the tree up to date with the lines; `sizes` are their lengths in bytes."""
        ends = list(accumulate(sizes))

        def read(offset: int, _: object) -> bytes:
            line = bisect_right(ends, offset)
            if line >= len(lines):
                return b""
            chunk = "".join(lines[line : line + LINES_A_READ]).encode("utf-8", "surrogatepass")
            return chunk[offset - ends[line] + sizes[line] :]

        if self._tree is None:
            self._tree = self._parser.parse(read)
            return
        late = time.thread_time() + PATIENCE_S
        try:
            self._tree = self._parser.parse(read, self._tree, progress_callback=lambda *_: time.thread_time() > late)
        except ValueError:
            # Given up: the old tree, whose places `edit` has moved, serves until a parse is quick again.
            self._parser.reset()

    @property
    def outline(self) -> str:
        """The tree as an S-expression."""
        return "" if self._tree is None else str(self._tree.root_node)

    @property
    def has_error(self) -> bool:
        """Whether any part of the text does not parse."""
        return self._tree is not None and self._tree.root_node.has_error

    def surroundings(self, offset: int) -> Surroundings:
        """What a byte offset stands in; at a token's end it stands in the token."""
        assert self._tree is not None
        node: Node | None = self._tree.root_node.descendant_for_byte_range(max(0, offset - 1), offset)
        while node is not None:
            if node.type in self._grammar.comments and node.start_byte < offset:
                return "comment"
            inside = node.start_byte < offset < node.end_byte
            if inside and node.type in self._grammar.interpolations:
                return "code"
            if inside and node.type in self._grammar.strings:
                return "string"
            node = node.parent
        return "code"
