"""Where a document marks that code is wanted: `...` for a body, a TODO in an empty block, what a pattern matches."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from tree_sitter import Node

from midspan.server.text.documents import Document, column_of
from midspan.server.text.hole import build_hole
from midspan.server.text.line_index import Place

MarkKind = Literal["body", "todo", "pattern"]
TODO = re.compile(r"\bTODO\b")
# Functions that have no body of their own: what declares them has a name with one of these, or their class is one.
DECLARED = re.compile(rb"overload|abstract")
PROTOCOL = re.compile(rb"\bProtocol\b")
# What stands for a body beside a TODO.
STUB = re.compile(r"pass|\.\.\.|raise NotImplementedError(?:\(.*\))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A gap from `start` to `end`; `opening` is put there first: the line below a comment, on which the gap is."""

    kind: MarkKind
    start: Place
    end: Place
    opening: str = ""


def marks_of(document: Document, pattern: re.Pattern[str] | None) -> list[Mark]:
    """The marks of a document in order; none overlaps another, but one may begin where another ends."""
    document.parse(math.inf)
    found = [*_matches(document, pattern), *_stubs(document), *_todos(document)]
    kept = list[Mark]()
    for mark in sorted(found, key=lambda one: (one.start, one.end)):
        if not kept or (mark.start > kept[-1].start and mark.start >= kept[-1].end):
            kept.append(mark)
    return kept


def _matches(document: Document, pattern: re.Pattern[str] | None) -> Iterator[Mark]:
    """What a pattern matches in the text with LF line ends."""
    if pattern is None:
        return
    contents = [document.content(line) for line in range(len(document.lines))]
    starts = [0, *accumulate(len(content) + 1 for content in contents)]

    def place(offset: int) -> Place:
        line = bisect_right(starts, offset) - 1
        return line, offset - starts[line]

    for match in pattern.finditer("\n".join(contents)):
        yield Mark(kind="pattern", start=place(match.start()), end=place(match.end()))


def _stubs(document: Document) -> Iterator[Mark]:
    """Python's bodies that are `...`, and blocks that are a stub below a TODO."""
    tree = document.tree() if document.language_id == "python" else None
    left = [] if tree is None else [tree.root_node]
    is_interface = document.uri.endswith(".pyi")
    while left:
        node = left.pop()
        left += node.named_children
        stub = _stub(node) if node.type == "block" else None
        if stub is None or stub.text is None:
            continue
        start, end = _place_at(document, stub.start_byte), _place_at(document, stub.end_byte)
        if not is_interface and stub.text == b"..." and _is_function(node.parent):
            yield Mark(kind="body", start=start, end=end)
        elif any(TODO.search(line) for line in _comments_above(document, start[0])):
            yield Mark(kind="todo", start=start, end=end)


def _stub(block: Node) -> Node | None:
    """The one statement of a block beside comments and a docstring, where it is a stub."""
    statements = [child for child in block.named_children if child.type != "comment"]
    if len(statements) > 1 and statements[0].type == "expression_statement" and _is_string(statements[0]):
        del statements[0]
    if len(statements) != 1 or statements[0].text is None:
        return None
    return statements[0] if STUB.fullmatch(statements[0].text.decode("utf-8", "replace")) else None


def _is_string(statement: Node) -> bool:
    return [child.type for child in statement.named_children] == ["string"]


def _is_function(node: Node | None) -> bool:
    """Whether a node is a function that is to have a body: none that is only declared."""
    if node is None or node.type != "function_definition":
        return False
    above = node.parent
    if above is not None and above.type == "decorated_definition":
        if any(DECLARED.search(child.text or b"") for child in above.children if child.type == "decorator"):
            return False
        above = above.parent
    owner = above.parent if above is not None else None
    if owner is None or owner.type != "class_definition":
        return True
    bases = owner.child_by_field_name("superclasses")
    return bases is None or PROTOCOL.search(bases.text or b"") is None


def _comments_above(document: Document, line: int) -> Iterator[str]:
    while line > 0 and (content := document.content(line - 1)).lstrip().startswith("#"):
        yield content
        line -= 1


def _todos(document: Document) -> Iterator[Mark]:
    """Blocks of any language that have comments alone, a TODO among them."""
    if document.syntax is None:
        return
    marks, line = document.syntax.language.line_comments, 0
    while marks and line < len(document.lines):
        first = line
        while line < len(document.lines) and document.content(line).lstrip().startswith(marks):
            line += 1
        if any(TODO.search(document.content(one)) for one in range(first, line)):
            opening = _opening(document, line - 1)
            if opening is not None:
                place = line - 1, len(document.content(line - 1))
                yield Mark(kind="todo", start=place, end=place, opening=opening)
        line = max(line, first + 1)


def _opening(document: Document, line: int) -> str | None:
    """What opens a gap below a comment; None where no block is empty there. The document is tried with it."""
    content = document.content(line)
    indent = content[: len(content) - len(content.lstrip())]
    opening = document.line_end() + indent
    above, gap = (line, len(content)), (line + 1, len(indent))
    document.edit((above, above), opening)
    document.parse(math.inf)
    is_empty = build_hole(document, gap).kind == "block"
    document.edit((above, gap), "")
    document.parse(math.inf)
    return opening if is_empty else None


def _place_at(document: Document, byte: int) -> Place:
    """The place at an offset in bytes of UTF-8."""
    line = min(document.offsets.line_at(byte), len(document.lines) - 1)
    return line, column_of(document.lines[line], byte - document.offsets.before(line), "utf-8")
