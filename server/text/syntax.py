"""tree-sitter trees kept beside the text, and what they say about a place.

Trees are parsed from UTF-8 bytes, a hundred lines at a time; after an edit the parser re-reads only what it asks for.
A parse that takes longer than a keystroke may take continues while nobody types (reparse.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from tree_sitter import Node, Parser, Tree

from midspan.server.text.languages import Language, language_of
from midspan.server.text.parsing import parse_in_pieces

if TYPE_CHECKING:
    from midspan.server.text.line_index import Edit, Offsets

# A call from the parser costs more than a few kilobytes.
LINES_A_READ = 100
Surroundings = Literal["code", "string", "comment"]


def syntax_of(language_id: str) -> Syntax | None:
    """A fresh tree for a language of the table; None for plain text."""
    language = language_of(language_id)
    return Syntax(language) if language.package else None


class Syntax:
    """The tree of one document."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._parser = Parser(language.grammar())
        self._tree: Tree | None = None
        self._lines: list[str] = []
        self._halfway = False

    def edit(self, edit: Edit) -> None:
        """Move the old tree's places by an edit."""
        self._start_afresh()
        if self._tree is not None:
            points = (edit.start_point, edit.old_end_point, edit.new_end_point)
            self._tree.edit(edit.start, edit.old_end, edit.new_end, *points)

    @property
    def tree(self) -> Tree | None:
        """The tree of the last parse that ended, moved by the edits since."""
        return self._tree

    @property
    def has_tree(self) -> bool:
        """Whether a parse has ended yet; until then nothing is known of any place."""
        return self._tree is not None

    def parse(self, lines: list[str], offsets: Offsets, patience_s: float) -> bool:
        """Update the tree to the lines, whose places `offsets` has; returns whether it is up to date.

        If not, the old tree, moved by `edit`, serves until a later call, which continues from here, has ended. The
        first time there is no old tree.
        """
        self._lines = lines

        def read(offset: int) -> bytes:
            line = offsets.line_at(offset)
            chunk = "".join(lines[line : line + LINES_A_READ]).encode("utf-8", "surrogatepass")
            return chunk[offset - offsets.before(line) :]

        end = time.thread_time() + patience_s
        try:
            self._tree = parse_in_pieces(self._parser, read, self._tree, lambda: time.thread_time() > end)
        except ValueError:
            self._halfway = True
            return False
        self._halfway = False
        return True

    def _start_afresh(self) -> None:
        """Drop an unfinished parse: an edit has made it useless."""
        if self._halfway:
            self._parser.reset()
            self._halfway = False

    @property
    def outline(self) -> str:
        """The tree as an S-expression."""
        return "" if self._tree is None else str(self._tree.root_node)

    @property
    def has_error(self) -> bool:
        """Whether any part of the text does not parse."""
        return self._tree is not None and self._tree.root_node.has_error

    def surroundings(self, offset: int) -> Surroundings:
        """What a byte offset stands in; a token's end belongs to the token."""
        for node in self.around(offset):
            if node.type in self.language.comments and self._in_comment(node, offset):
                return "comment"
            inside = node.start_byte < offset < node.end_byte
            if inside and node.type in self.language.interpolations:
                return "code"
            # The type `string` of some languages is a word, not a literal.
            if node.is_named and node.type in self.language.strings and self._in_string(node, offset):
                return "string"
        return "code"

    def in_empty_block(self, offset: int, above: int) -> bool:
        """Whether the blank line at an offset is a whole block; `above` is where the code above it ends."""
        assert self._tree is not None
        opener: Node | None = self._tree.root_node.descendant_for_byte_range(max(0, above - 1), above)
        header = None if opener is None else opener.parent
        if opener is not None and header is not None and opener.type == ":":
            return header.type in self.language.headers and not _holds_more(opener)
        if header is not None and header.type in self.language.blocks and header.child_count == 1:
            return True  # an `else` and nothing behind it
        for node in self.around(offset):
            if node.start_byte < offset < node.end_byte:
                if node.type in self.language.blocks:
                    return not self._has_content(node)
                if node.type in self.language.arguments:
                    return False
        return False

    def top(self) -> Iterator[Node]:
        """The statements of the file, in order."""
        assert self._tree is not None
        cursor = self._tree.walk()
        more = cursor.goto_first_child()
        while more and (node := cursor.node) is not None:
            yield node
            more = cursor.goto_next_sibling()

    def around(self, offset: int) -> Iterator[Node]:
        """The nodes at an offset, innermost first."""
        assert self._tree is not None
        node: Node | None = self._tree.root_node.descendant_for_byte_range(max(0, offset - 1), offset)
        while node is not None:
            yield node
            node = node.parent

    def _in_comment(self, node: Node, offset: int) -> bool:
        begin, bare = self._begin(node), offset == node.end_byte and node.end_point.column == 0
        if any(begin.startswith(mark) for mark, _ in self.language.block_comments):
            return node.start_byte < offset < node.end_byte
        # Some grammars let a comment hold its line end.
        return begin.startswith(self.language.line_comments) and node.start_byte < offset <= node.end_byte and not bare

    def _in_string(self, node: Node, offset: int) -> bool:
        if self.language.string_starts and not self._begin(node).startswith(self.language.string_starts):
            return False
        if node.type in self.language.open_strings and offset == node.end_byte:
            return node.start_byte < offset
        return node.start_byte < offset < node.end_byte

    def _begin(self, node: Node) -> str:
        """The text of a node's first line from its first character on."""
        row, column = node.start_point
        # A tree that the parser gave up on may reach past the text.
        line = self._lines[row] if row < len(self._lines) else ""
        return line.encode("utf-8", "surrogatepass")[column:].decode("utf-8", "replace")

    def _has_content(self, block: Node) -> bool:
        """Whether anything but comments and a closing tag begins below a block's first line."""
        return any(
            child.start_point.row > block.start_point.row
            and child.type not in self.language.comments
            and child.type != "end_tag"
            for child in block.named_children
        )


def _holds_more(colon: Node) -> bool:
    """Whether a block or a value follows a header's colon; another clause of the statement does not count."""
    node = colon.next_named_sibling
    while node is not None and "comment" in node.type:
        node = node.next_named_sibling
    return node is not None and node.start_byte < node.end_byte and not node.type.endswith("_clause")
