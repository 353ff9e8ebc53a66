"""Whether a fill breaks the syntax, by tree-sitter: the engine's judge, for every language with a grammar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tree_sitter import Node, Parser, Tree

import midspan.engine
from midspan.engine.api import Engine, Hole, OnProgress
from midspan.server.text.languages import language_of
from midspan.server.text.parsing import parse_in_pieces

if TYPE_CHECKING:
    from midspan.server.text.languages import Language

# Between two pieces other threads have the interpreter: no keystroke waits for a parse.
PIECE = 1024


def load_with_syntax(checkpoint: str = "embedded", device: str = "auto", progress: OnProgress | None = None) -> Engine:
    """`midspan.engine.load` with this file's judge; raises what that raises."""
    if progress is None:
        return midspan.engine.load(checkpoint, device, SyntaxJudge())
    return midspan.engine.load(checkpoint, device, SyntaxJudge(), progress)


@dataclass(slots=True)
class _Around:
    """The text of one hole without a fill, parsed once for all of its fills."""

    hole: Hole
    prefix: bytes
    suffix: bytes
    start: tuple[int, int]
    parser: Parser
    tree: Tree


class SyntaxJudge:
    """Call it with a hole and a fill: which characters of the fill stand in an error that is there because of it.

    The text around the gap is parsed once a hole, a fill is an edit of that tree. An error that does not touch the
    fill, as in a file that is broken elsewhere, is no objection; nor is anything in a language without a grammar.
    """

    def __init__(self) -> None:
        self._around: _Around | None = None

    def __call__(self, hole: Hole, fill: str) -> tuple[tuple[int, int], ...]:
        """Spans [begin, end) of the fill's characters; see engine.api.Judge."""
        language = language_of(hole.language)
        if not language.package or not fill:
            return ()
        around = self._parsed(hole, language)
        before = around.prefix + _bytes(fill)
        begin, end = len(around.prefix), len(before)
        text = before + around.suffix
        tree = around.tree.copy()
        tree.edit(begin, begin, end, around.start, around.start, _point(before))
        spans = []
        for node in _errors(_parse(around.parser, text, tree).root_node, begin, end):
            # What is missing behind the fill's end is laid to its last character.
            first, last = min(max(begin, node.start_byte), end - 1), min(end, node.end_byte)
            # What is missing has no bytes, and a character may have several.
            mark = _characters(text[begin:first])
            spans.append((mark, max(mark + 1, _characters(text[begin:last]))))
        return tuple(spans)

    def _parsed(self, hole: Hole, language: Language) -> _Around:
        if self._around is None or self._around.hole is not hole:
            parser = Parser(language.grammar())
            prefix, suffix = _bytes(hole.prefix), _bytes(hole.suffix)
            tree = _parse(parser, prefix + suffix)
            self._around = _Around(hole, prefix, suffix, _point(prefix), parser, tree)
        return self._around


def _parse(parser: Parser, text: bytes, old: Tree | None = None) -> Tree:
    return parse_in_pieces(parser, lambda offset: text[offset : offset + PIECE], old)


def _errors(node: Node, begin: int, end: int) -> Iterator[Node]:
    """Errors and missing tokens that touch the bytes [begin, end]; of nested ones the innermost."""
    if not node.has_error or node.end_byte < begin or node.start_byte > end:
        return
    inner = [error for child in node.children for error in _errors(child, begin, end)]
    if inner:
        yield from inner
    elif node.is_error or node.is_missing:
        yield node


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _characters(data: bytes) -> int:
    return len(data.decode("utf-8", "ignore"))


def _point(data: bytes) -> tuple[int, int]:
    """Row and column, in bytes, of the end of `data`."""
    return data.count(b"\n"), len(data) - data.rfind(b"\n") - 1
