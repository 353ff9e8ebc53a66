"""Where context comes from: each source yields snippets of text for one gap, the most useful first.

With each comes what it is sorted by among those that are used, so that a prompt keeps its order from line to line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, islice
from pathlib import Path

from midspan.engine.api import Hole
from midspan.server.context.diagnostics import Diagnosed
from midspan.server.context.recent_edits import Edits
from midspan.server.text.documents import Document, Documents
from midspan.server.text.hole import encodable, lf
from midspan.server.text.languages import Language, language_of
from midspan.server.text.line_index import Place
from midspan.server.text.uris import key_of
from midspan.server.workspace.index import WORDS, Index
from midspan.server.workspace.tags import Definition

# Of a file's statements so many are looked at for so many imports; of a header so many lines are shown.
MAX_STATEMENTS, MAX_IMPORTS, HEADER_LINES = 200, 64, 6
# Names are taken from so many lines above and below the gap; from a multiple on, as the prefix is (hole.py).
LINES_ABOVE, LINES_BELOW, ANCHOR = 24, 8, 8
LINE_CHARS = 400
# So many lines from the gap a diagnostic may be.
NEAR_LINES = 12
EDIT_CHARS = 600
HEADER = re.compile(r"class|function|method|impl|interface|struct|trait|module|namespace|constructor")
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
NAME = re.compile(r"[^\W\d]\w{2,}(\s*\()?")


@dataclass(frozen=True, kw_only=True)
class Gap:
    """One gap and what is known of its surroundings; lines [first, last] are within the hole's text."""

    document: Document
    place: Place
    hole: Hole
    index: Index
    documents: Documents
    edits: Edits
    diagnosed: Diagnosed = field(default_factory=Diagnosed)
    roots: tuple[Path, ...]

    @cached_property
    def first(self) -> int:
        """The first line of the prefix."""
        return self.place[0] - self.hole.prefix.count("\n")

    @cached_property
    def last(self) -> int:
        """The last line of the suffix."""
        return self.place[0] + self.hole.suffix.count("\n")

    @cached_property
    def key(self) -> str:
        """What the index calls the document."""
        return key_of(self.document.uri)

    @cached_property
    def open_keys(self) -> set[str]:
        """What the index calls all open documents."""
        return {key_of(uri) for uri in self.documents.uris()}

    @cached_property
    def imported(self) -> set[str]:
        """The words of this file's import statements, wherever they stand."""
        lines = (self.document.lines[begin:end] for begin, end in self.imports)
        return set(WORDS.findall("".join(chain.from_iterable(lines))))

    @cached_property
    def imports(self) -> list[tuple[int, int]]:
        """The lines [begin, end) of this file's import statements."""
        syntax = self.document.syntax
        if syntax is None:
            return []
        nodes = (node for node in islice(syntax.top(), MAX_STATEMENTS) if node.type in syntax.language.imports)
        # Some grammars let a statement hold its line end.
        return [
            (node.start_point.row, node.end_point.row + (node.end_point.column > 0))
            for node in islice(nodes, MAX_IMPORTS)
        ]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names around the gap that a definition may explain, nearest first: called, capital or imported ones."""
        line, lines = self.place[0], self.document.lines
        begin = max(self.first, (line - LINES_ABOVE) // ANCHOR * ANCHOR)
        found = dict[str, None]()
        end = min(self.last, line + LINES_BELOW, len(lines) - 1)
        for row in chain(range(line, begin - 1, -1), range(line + 1, end + 1)):
            for match in reversed(list(NAME.finditer(lines[row][:LINE_CHARS]))):
                name = match[0].rstrip("( \t")
                if match[1] or name[0].isupper() or name in self.imported:
                    found[name] = None
        return tuple(found)


Order = tuple[str, int]
Snippets = Iterator[tuple[Order, str]]
Source = Callable[[Gap], Snippets]


def headers(gap: Gap) -> Snippets:
    """The headers of the classes and functions around the gap that begin before the prefix."""
    syntax, (line, column) = gap.document.syntax, gap.place
    if syntax is None:
        return
    lines = gap.document.lines
    offset = gap.document.offset((line, column))
    for node in syntax.around(offset):
        row, body = node.start_point.row, node.child_by_field_name("body")
        if row >= gap.first or body is None or not HEADER.search(node.type) or node.start_byte == offset:
            continue
        end = min(body.start_point.row, row + HEADER_LINES)
        # A tree that the parser gave up on may reach past the text.
        shown = lines[row : end + 1]
        if shown and end == body.start_point.row:
            shown[-1] = shown[-1].encode("utf-8", "surrogatepass")[: body.start_point.column].decode("utf-8", "replace")
        yield ("", row), _clean("".join(shown)).rstrip()


def imports(gap: Gap) -> Snippets:
    """The import statements before the prefix."""
    for begin, end in gap.imports:
        if begin < gap.first:
            yield ("", begin), _clean("".join(gap.document.lines[begin : min(end, gap.first)])).rstrip()


def here(gap: Gap) -> Snippets:
    """Definitions of the names in reach, in this file."""
    for name in gap.names:
        for one in gap.index.here(name, gap.key):
            if _is_beyond(gap, one):
                yield ("", one.row), one.text


def opened(gap: Gap) -> Snippets:
    """Definitions of the names in reach, in other open files."""
    return _elsewhere(gap, is_open=True)


def workspace(gap: Gap) -> Snippets:
    """Definitions of the names in reach, in files that are not open."""
    return _elsewhere(gap, is_open=False)


def edited(gap: Gap) -> Snippets:
    """What has been edited lately beyond the hole's text, newest first; of documents that the indexer let through."""
    for number, region in enumerate(gap.edits.newest()):
        document = gap.documents.get(region.uri)
        if document is None or not gap.index.may_show(key_of(region.uri), gap.key):
            continue
        if region.uri == gap.document.uri and region.first <= gap.last and region.last >= gap.first:
            continue
        text = _clean("".join(document.lines[max(0, region.first - 1) : region.last + 2]))
        if len(text) > EDIT_CHARS:
            text = text[: text.rfind("\n", 0, EDIT_CHARS) + 1]
        if text.strip():
            yield ("", -number), _headed(gap, key_of(region.uri), text.rstrip())


def diagnostics(gap: Gap) -> Snippets:
    """What other servers find wrong near the gap, the nearest first: the message in a comment above its line."""
    line, lines = gap.place[0], gap.document.lines
    near = gap.diagnosed.around(gap.document.uri, line - NEAR_LINES, min(line + NEAR_LINES, len(lines) - 1))
    for one in sorted(near, key=lambda one: abs(one.line - line)):
        comment = _comment(language_of(gap.document.language_id), one.message)
        if comment:
            yield ("", one.line), _clean(comment + lines[one.line][:LINE_CHARS].strip())


def _elsewhere(gap: Gap, *, is_open: bool) -> Snippets:
    for name in gap.names:
        for key, one in gap.index.elsewhere(name, gap.key, gap.document.language_id, gap.imported):
            if (key in gap.open_keys) == is_open and _is_beyond(gap, one):
                yield (key, one.row), _headed(gap, key, one.text)


def _is_beyond(gap: Gap, definition: Definition) -> bool:
    """Whether the model does not see a definition anyway."""
    return definition.head not in gap.hole.prefix and definition.head not in gap.hole.suffix


def _headed(gap: Gap, key: str, text: str) -> str:
    """A snippet below a comment with its file's name."""
    return _comment(language_of(gap.document.language_id), _name_in(key, gap.roots)) + text


@lru_cache(maxsize=4096)
def _name_in(key: str, roots: tuple[Path, ...]) -> str:
    """A file's path below the folder that it is in, else its name."""
    root = next((root for root in roots if Path(key).is_relative_to(root)), None)
    name = Path(key).name if root is None else Path(key).relative_to(root).as_posix()
    # A name may hold a line end, which would end the comment that it is shown in.
    return CONTROL.sub("?", name)


def _comment(language: Language, text: str) -> str:
    if language.line_comments:
        return f"{language.line_comments[0]} {text}\n"
    if language.block_comments:
        begin, end = language.block_comments[0]
        return f"{begin} {text} {end}\n"
    return ""


def _clean(text: str) -> str:
    return encodable(lf(text))
