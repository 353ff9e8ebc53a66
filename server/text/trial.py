"""Whether a text that replaces a span of a document would break what parses there, by the document's own tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from tree_sitter import Node, Parser, Tree

from midspan.server.text import python_compiler, python_rules
from midspan.server.text.documents import Document
from midspan.server.text.line_index import Place, byte_length
from midspan.server.text.parsing import parse_in_pieces

# Of this thread's processor time: a text that moves the whole file's tree about is taken to break it.
PATIENCE_S = 0.02
LINES_A_READ = 100

# Rules beyond a grammar, by language: (root, begin, end) -> whether something that touches these bytes is refused.
RULES: dict[str, Callable[[Node, int, int], bool]] = {"python": python_rules.refused}
Read = Callable[[int, int | None], bytes]
# What a language's own compiler refuses, where it is at hand: (root, begin, end, read) -> whether it does.
COMPILERS: dict[str, Callable[[Node, int, int, Read], bool]] = {"python": python_compiler.refused}


class _Tried(NamedTuple):
    """A document with a text put into it: its tree, the bytes that count, and what gives its text."""

    tree: Tree
    begin: int
    end: int
    read: Read


class Trial:
    """A span of a document as it is now, and what becomes of its syntax with other texts in place of the span.

    Without a grammar, while the tree is not up to date, or once the document has changed, nothing breaks.
    """

    def __init__(self, document: Document, start: Place, end: Place) -> None:
        self._document, self._start, self._end = document, start, end
        self._edits = document.edits
        self._rule = RULES.get(document.language_id)
        self._compiler = COMPILERS.get(document.language_id)
        self._trees: dict[str, _Tried | None] = {}

    @property
    def start(self) -> Place:
        """Where the span begins."""
        return self._start

    @property
    def uri(self) -> str:
        """The document's."""
        return self._document.uri

    @property
    def language(self) -> str:
        """The document's, by the table's name."""
        return self._document.language_id

    def around(self, most: int) -> tuple[str, str] | None:
        """The document's text before and behind the span; None where it has more than so many bytes, or has changed."""
        document, (line, column), (last, end) = self._document, self._start, self._end
        if document.edits != self._edits or document.offsets.before(len(document.lines)) > most:
            return None
        before = "".join([*document.lines[:line], document.lines[line][:column]])
        return before, "".join([document.lines[last][end:], *document.lines[last + 1 :]])

    @cached_property
    def _tree(self) -> Tree | None:
        return self._document.tree() if self._document.edits == self._edits else None

    @cached_property
    def parsed(self) -> bool:
        """Whether the document parses as it is; an error that does not touch the span's lines is passed over."""
        return self._tree is not None and not self._is_broken(self._tree, *self._lines())

    @cached_property
    def compiled(self) -> bool:
        """Whether the compiler, if there is one, takes the statements around the span as they are."""
        return self._tree is None or not self._is_refused(self._tree, *self._lines(), self._text_of_document)

    def kept(self, texts: Sequence[str]) -> list[str]:
        """The texts that may be shown: those that break nothing, neither by the grammar nor by the compiler.

        Where the document does not parse as it is, all of them if there is no such text; where it does not compile, all
        that parse.
        """
        whole = [text for text in texts if not self.breaks(text)]
        if not whole:
            return [] if self.parsed else list(texts)
        sure = [text for text in whole if not self.is_refused(text)]
        return sure or ([] if self.compiled else whole)

    def breaks(self, text: str) -> bool:
        """Whether the document has an error with `text` in place of the span, but for errors elsewhere in it."""
        if self._tree is None or self._document.edits != self._edits:
            return False
        tried = self._tried(text)
        return tried is None or self._is_broken(tried.tree, tried.begin, tried.end)

    def is_refused(self, text: str) -> bool:
        """Whether the language's compiler refuses the statements around the span with `text` in its place."""
        if self._tree is None or self._compiler is None or self._document.edits != self._edits:
            return False
        tried = self._tried(text)
        return tried is not None and self._is_refused(tried.tree, tried.begin, tried.end, tried.read)

    def _tried(self, text: str) -> _Tried | None:
        """The document with `text` in place of the span; None if its tree takes too long."""
        if text in self._trees:
            return self._trees[text]
        assert self._tree is not None
        begin, old_end = self._document.offset(self._start), self._document.offset(self._end)
        new, tree = text.encode("utf-8", "surrogatepass"), self._tree.copy()
        rows, column = text.count("\n"), len(new) - new.rfind(b"\n") - 1
        start_point, end_point = self._point(self._start), self._point(self._end)
        new_point = start_point[0] + rows, column if rows else start_point[1] + column
        tree.edit(begin, old_end, begin + len(new), start_point, end_point, new_point)
        read = self._reader(new, begin, old_end)
        parsed = self._parse(tree, read)
        first, last = self._lines()
        tried = None if parsed is None else _Tried(parsed, first, last + len(new) - (old_end - begin), read)
        self._trees[text] = tried
        return tried

    def _reader(self, new: bytes, begin: int, old_end: int) -> Read:
        """What gives some bytes from an offset on, before an end if there is one, with `new` in place of the span."""
        from_the_document = self._text_of_document

        def read(offset: int, end: int | None = None) -> bytes:
            if offset < begin:
                return from_the_document(offset, begin if end is None else min(begin, end))
            behind = offset - begin - len(new)
            if behind < 0:
                return new[offset - begin : None if end is None else end - begin]
            return from_the_document(old_end + behind, None if end is None else end - begin - len(new) + old_end)

        return read

    def _text_of_document(self, offset: int, end: int | None = None) -> bytes:
        lines, offsets = self._document.lines, self._document.offsets
        line = offsets.line_at(offset)
        chunk = "".join(lines[line : line + LINES_A_READ]).encode("utf-8", "surrogatepass")
        before = offsets.before(line)
        return chunk[offset - before : None if end is None else max(0, end - before)]

    def _parse(self, old: Tree, read: Read) -> Tree | None:
        """The tree of what `read` gives; None if that takes too long."""
        limit = time.thread_time() + PATIENCE_S
        language = self._document.syntax
        assert language is not None
        try:
            grammar = language.language.grammar()
            return parse_in_pieces(Parser(grammar), lambda at: read(at, None), old, lambda: time.thread_time() > limit)
        except ValueError:
            return None

    def _lines(self) -> tuple[int, int]:
        """Bytes of the span's lines with the nearest line above and below that is not blank."""
        lines, first, last = self._document.lines, self._start[0] - 1, self._end[0] + 1
        while first > 0 and not lines[first].strip():
            first -= 1
        while last < len(lines) - 1 and not lines[last].strip():
            last += 1
        before = self._document.offsets.before
        return before(max(0, first)), before(min(last + 1, len(lines)))

    def _is_broken(self, tree: Tree, begin: int, end: int) -> bool:
        assert self._tree is not None
        # Where the whole document parses, an error anywhere is a new one.
        whole = not self._tree.root_node.has_error
        root = tree.root_node
        if root.has_error and (whole or any(_errors(root, begin, end))):
            return True
        return self._rule is not None and self._rule(root, begin, end)

    def _is_refused(self, tree: Tree, begin: int, end: int, read: Read) -> bool:
        def whole(offset: int, end: int | None) -> bytes:
            assert end is not None
            parts = list[bytes]()
            while offset < end and (part := read(offset, end)):
                parts.append(part)
                offset += len(part)
            return b"".join(parts)

        return self._compiler is not None and self._compiler(tree.root_node, begin, end, whole)

    def _point(self, place: Place) -> tuple[int, int]:
        return place[0], byte_length(self._document.lines[place[0]][: place[1]])


def _errors(node: Node, begin: int, end: int) -> Iterator[Node]:
    """Errors and missing tokens that touch the bytes [begin, end]."""
    if node.has_error and node.start_byte <= end and node.end_byte >= begin:
        if node.is_error or node.is_missing:
            yield node
        for child in node.children:
            yield from _errors(child, begin, end)
