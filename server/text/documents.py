"""Open documents: LSP line ends only, three position encodings, edits in O(lines touched).

A change of the whole text is reduced to what differs.

Lines are numbered from 0 and keep their line end; the last one has none. Columns count code points, characters count
the units of an encoding. Form feed, NEL, U+2028 and their like are ordinary characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from midspan.server.text.languages import name_in
from midspan.server.text.line_index import Edit, Offsets, Place, Range, byte_length
from midspan.server.text.syntax import Syntax, syntax_of

if TYPE_CHECKING:
    from tree_sitter import Tree

Encoding = Literal["utf-8", "utf-16", "utf-32"]
LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
WORD = re.compile(r"\w*")
# Text that does not parse can make the parser read the whole file; no keystroke should wait for that.
PATIENCE_S = 0.001  # of this thread's processor time
# The first parse may take this many times as long: enough for most files, and not felt while typing in another one.
FIRST = 20


class Document:
    """One open document; `version` is the client's. Its text is `lost` after an edit that could not be understood.

    `edits` counts the changes since it was opened. `language_id` is the table's name of the language, or the client's
    id where no table knows it (languages.py).
    """

    def __init__(self, uri: str, language_id: str, version: int, text: str) -> None:
        self.uri, self.language_id, self.version = uri, name_in(language_id, uri), version
        self.lost = False
        self.edits = 0
        self.lines = split_lines(text)
        self.offsets = Offsets(map(byte_length, self.lines))
        self._syntax = syntax_of(self.language_id)
        self._parsed = self._tried = self._laborious = self._only_words = False
        self.parse(FIRST * PATIENCE_S)

    @property
    def syntax(self) -> Syntax | None:
        """The syntax tree; None for plain text, and until a first parse has ended.

        The tree is updated here rather than at every edit, as letters within a word change nothing around it. If that
        took too long the last time, `parse` does it, and this is the tree of an older text.
        """
        if not self._tried and not self._laborious and not self._only_words:
            self.parse(PATIENCE_S)
        return self._syntax if self._syntax is not None and self._syntax.has_tree else None

    def tree(self) -> Tree | None:
        """The tree of the text as it is now; None for plain text, and where that takes longer than a key may."""
        return self._syntax.tree if self._syntax is not None and self.parse(PATIENCE_S) else None

    def parse(self, patience_s: float) -> bool:
        """Continue the parse for so many seconds of processor time; returns whether the tree is up to date."""
        if self._syntax is not None and not self._parsed:
            self._parsed = self._syntax.parse(self.lines, self.offsets, patience_s)
            self._laborious = self._tried or not self._parsed
        self._tried = True
        return self._parsed or self._syntax is None

    def offset(self, place: Place) -> int:
        """Bytes of UTF-8 before a place."""
        line, column = place
        return self.offsets.before(line) + byte_length(self.lines[line][:column])

    @property
    def text(self) -> str:
        """The whole text. It costs a join: not for the path of a keystroke."""
        return "".join(self.lines)

    def content(self, line: int) -> str:
        """A line without its line end."""
        return self.lines[line].rstrip("\r\n") if self.lines[line][-1:] in "\r\n" else self.lines[line]

    def line_end(self) -> str:
        """The line end that most of the first 200 lines have; LF where there is none."""
        text = "".join(self.lines[:200])
        both = text.count("\r\n")
        counts = {"\n": text.count("\n") - both, "\r\n": both, "\r": text.count("\r") - both}
        return max(counts, key=counts.__getitem__)

    def place(self, line: int, character: int, encoding: Encoding) -> Place:
        """A client's position as line and column, clamped to the line's end and to the text's end."""
        if line >= len(self.lines):
            return len(self.lines) - 1, len(self.content(len(self.lines) - 1))
        return line, column_of(self.content(line), character, encoding)

    def places(self, span: Range, encoding: Encoding) -> Range:
        """A client's range as places, in order."""
        start, end = sorted(self.place(*position, encoding) for position in span)
        return start, end

    def character(self, place: Place, encoding: Encoding) -> int:
        """The encoding's units before a column."""
        line, column = place
        return units(self.lines[line][:column], encoding)

    def change(self, span: Range | None, text: str, encoding: Encoding) -> None:
        """Replace a range (a client's positions) or, with None, the whole text."""
        self.edit(*self.edit_of(span, text, encoding))

    def edit_of(self, span: Range | None, text: str, encoding: Encoding) -> tuple[Range, str]:
        """A client's change as an edit; a whole text as the part that differs.

        So the tree, and all that is known by places, survives a whole text.
        """
        if span is not None:
            return self.places(span, encoding), text
        head, tail = unchanged(old := self.text, text)
        return (self._place_at(old[:head]), self._place_at(old[: len(old) - tail])), text[head : len(text) - tail]

    def _place_at(self, before: str) -> Place:
        """The place where a beginning of the text ends."""
        size = byte_length(before)
        line = min(self.offsets.line_at(size), len(self.lines) - 1)
        return line, column_of(self.lines[line], size - self.offsets.before(line), "utf-8")

    def edit(self, span: Range, text: str) -> None:
        """Replace what stands between two places."""
        (first, column), (last, end_column) = span
        removed = self.lines[first][column:end_column] if first == last else "\n"
        self._only_words = (self._parsed or self._only_words) and WORD.fullmatch(removed + text) is not None
        edit = self._replace(*span, text)
        if self._syntax is not None:
            self._syntax.edit(edit)
        self.edits += 1
        self._parsed = self._tried = False

    def _replace(self, start: Place, end: Place, text: str) -> Edit:
        (first, column), (last, end_column) = start, end
        head, tail = self.lines[first][:column], self.lines[last][end_column:]
        begin = self.offset(start)
        old = self.offset(end) - begin
        inserted = split_lines(text)
        new_column = byte_length(inserted[-1]) + (byte_length(head) if len(inserted) == 1 else 0)
        edit = Edit(
            start=begin,
            old_end=begin + old,
            new_end=begin + byte_length(text),
            start_point=(first, byte_length(head)),
            old_end_point=(last, self.offsets[last] - byte_length(tail)),
            new_end_point=(first + len(inserted) - 1, new_column),
        )
        if not head and first and self.lines[first - 1].endswith("\r") and (text + tail).startswith("\n"):
            # The line before ended in a lone CR, which becomes half of a CRLF.
            first -= 1
            head = self.lines[first]
        new = split_lines(head + text + tail)
        if last < len(self.lines) - 1:
            new.pop()
        self.lines[first : last + 1] = new
        self.offsets.replace(first, last + 1, map(byte_length, new))
        return edit


class Documents:
    """All open documents by URI."""

    def __init__(self) -> None:
        self._open: dict[str, Document] = {}

    def open(self, uri: str, language_id: str, version: int, text: str) -> Document:
        """Take the client's text of a document."""
        self._open[uri] = document = Document(uri, language_id, version, text)
        return document

    def change(
        self,
        uri: str,
        version: int,
        changes: Sequence[tuple[Range | None, str]],
        encoding: Encoding,
        before_each: Callable[[Document, Range, str], object] | None = None,
    ) -> None:
        """Apply changes in order; a change of the whole text brings a lost one back.

        `before_each` hears of every edit before it is made. Raises KeyError for a document that is not open."""
        document = self._open[uri]
        for span, text in changes:
            document.lost = document.lost and span is not None
            if not document.lost:
                edit = document.edit_of(span, text, encoding)
                if before_each is not None:
                    before_each(document, *edit)
                document.edit(*edit)
        document.version = version

    def uris(self) -> list[str]:
        """All open documents."""
        return list(self._open)

    def lose(self, uri: str) -> None:
        """Mark a document's text as lost: the client shows something else than is held here."""
        if uri in self._open:
            self._open[uri].lost = True

    def version(self, uri: str) -> int | None:
        """The version of an open document, lost or not; None for a document that is not open."""
        return self._open[uri].version if uri in self._open else None

    def close(self, uri: str) -> None:
        """Forget a document; one that is not open is nothing to forget."""
        self._open.pop(uri, None)

    def get(self, uri: str) -> Document | None:
        """The open document of this URI; None while its text is lost."""
        document = self._open.get(uri)
        return None if document is None or document.lost else document


def split_lines(text: str) -> list[str]:
    """Lines with their ends; the last has none and may be empty."""
    lines = LINES.findall(text)
    if not lines or lines[-1][-1] in "\r\n":
        lines.append("")
    return lines


def end_of(start: Place, text: str) -> Place:
    """Where a text ends that begins at a place."""
    if "\n" not in text and "\r" not in text:
        return start[0], start[1] + len(text)
    lines = split_lines(text)
    return start[0] + len(lines) - 1, len(lines[-1]) + (start[1] if len(lines) == 1 else 0)


def unchanged(old: str, new: str) -> tuple[int, int]:
    """How many characters two texts share at their beginning and at their end; no CRLF is cut."""
    head = _alike(old, new, min(len(old), len(new)), lambda text, low, high: text[low:high])
    if head and old[head - 1] == "\r" and "\n" in (old[head : head + 1], new[head : head + 1]):
        head -= 1
    room = min(len(old), len(new)) - head
    tail = _alike(old, new, room, lambda text, low, high: text[len(text) - high : len(text) - low])
    if tail and old[-tail] == "\n" and "\r" in (old[-tail - 1 : -tail], new[-tail - 1 : -tail]):
        tail -= 1
    return head, tail


def _alike(one: str, other: str, most: int, part: Callable[[str, int, int], str]) -> int:
    """How many leading characters are alike, found by halving, as comparing long parts is quick."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if part(one, low, middle) == part(other, low, middle):
            low = middle
        else:
            high = middle - 1
    return low


def units(text: str, encoding: Encoding) -> int:
    """How many units of the encoding a text takes."""
    if encoding == "utf-16" and not text.isascii():
        return len(text.encode("utf-16-le", "surrogatepass")) // 2
    return byte_length(text) if encoding == "utf-8" else len(text)


def column_of(content: str, character: int, encoding: Encoding) -> int:
    """Code points before `character` units; inside a character rounds down, past the end is the end."""
    if content.isascii() or encoding == "utf-32":
        return min(character, len(content))
    # One column more than there can be; the excess bounds how many characters to go back.
    column, widest = min(character, len(content)), 4 if encoding == "utf-8" else 2
    while (excess := units(content[:column], encoding) - character) > 0:
        column -= -(-excess // widest)
    return column
