"""Where each code action applies: the text that it replaces, and the hole that the engine fills."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from midspan.engine.api import Fill, GapKind, Hole
from midspan.server.postprocess.indent import unit_of
from midspan.server.postprocess.trim import trim
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole, encodable, lf
from midspan.server.text.line_index import Place, byte_length
from midspan.server.text.trial import Trial
from midspan.server.validation.splice import NO_FOLDERS, Files
from midspan.server.validation.validators import validated

if TYPE_CHECKING:
    from tree_sitter import Node

    from midspan.server.text.syntax import Syntax

REWRITE, QUICKFIX = "refactor.rewrite.midspan", "quickfix.midspan"
# The model reads about as much before a gap: a longer selection would push out the text it is written from.
SELECTION_CHARS = 4000
LONG_LINE = 2000
DEFAULT_INDENT = "    "
PLACEHOLDER = re.compile(r"(?<![\w.])(?:\.\.\.|pass|TODO)(?![\w.(])")
# A statement, or a whole value: an argument list or a subscript may hold `...` and mean it.
AS_STATEMENT = re.compile(r"(?:^|[:{;])\s*\Z")
AS_VALUE = re.compile(r"(?:(?<![=!<>])=|=>|\breturn)\s*\Z")
AT_THE_END = re.compile(r"\s*(?:[;}].*)?\Z")
# A line that does nothing, in any language of the table.
HOLDS_A_PLACE = re.compile(
    r"(?:(?:#|//|--|/\*).*|(?:pass|\.\.\.|return(?: None| null| nil)?|raise NotImplementedError(?:\(.*\))?"
    r"|(?:todo|unimplemented)!\(.*\)|throw new Error\(.*\))?;?)"
)
# A block ends at these; a placeholder is to be filled, not followed.
LEAVES = re.compile(r"\s*(?:return|raise|throw|break|continue|pass|\.\.\.)(?!\w)")
CLOSERS = frozenset(("}", "]", ")", "end", "fi", "done", "esac", "until"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an action does: `before`, the fill and `after` replace [start, end); LF line ends.

    `trial` is the span in the document. `trims` is false if the engine's text is taken as it is; `stands_in` says that
    what is there stands in for code, so that a text which does nothing is no better.
    """

    start: Place
    end: Place
    hole: Hole
    trial: Trial
    before: str = ""
    after: str = ""
    trims: bool = True
    stands_in: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One code action: its name in `midspan.json`, its title for a person, and where it applies.

    `selects` says whether it needs a selection or an error rather than a place.
    """

    name: str
    title: str
    plan: Callable[[Document, Place, Place], Change | None]
    alternatives: int = 1
    selects: bool = False

    @property
    def kind(self) -> str:
        """Its CodeActionKind."""
        return QUICKFIX if self.name == "quickfix" else f"{REWRITE}.{self.name}"


def refill(document: Document, start: Place, end: Place) -> Change | None:
    """Write the selection afresh."""
    start, end = _without_blanks(document, start, end)
    if start == end or is_too_long(document, start, end):
        return None
    return _replacing(document, start, end)


def rewrite(strength: float) -> Callable[[Document, Place, Place], Change | None]:
    """Write this share of the selection's tokens afresh; the others stay."""

    def plan(document: Document, start: Place, end: Place) -> Change | None:
        whole = refill(document, start, end)
        return whole and replace(whole, hole=replace(whole.hole, strength=strength), trims=False)

    return plan


def finish(document: Document, start: Place, _: Place) -> Change | None:
    """Add lines at the end of the block around a place, unless the block ends by leaving it."""
    if document.syntax is None or (row := _row_with_code(document, start[0])) is None:
        return None
    found = _block(document, document.syntax, row)
    if found is None:
        return None
    opener, last = found
    first = next((number for number in range(opener + 1, last + 1) if document.content(number).strip()), None)
    indent = _indent(document.content(opener if first is None else first))
    if first is None:
        near = lf("".join(document.lines[max(0, opener - LONG_LINE) : opener + LONG_LINE]))
        indent += unit_of(near) or DEFAULT_INDENT
    elif LEAVES.match(document.content(last)) and _indent(document.content(last)) == indent:
        return None
    if last < start[0] and row < start[0] and row <= last:
        # The cursor waits on a blank line below the block; without an indent and farther away it has left the block.
        if not start[1] and start[0] > last + 1:
            return None
        return _inserting(document, (start[0], 0), (start[0], len(document.content(start[0]))), indent)
    end = last, len(document.content(last))
    return _inserting(document, end, end, "\n" + indent)


def placeholder(document: Document, start: Place, end: Place) -> Change | None:
    """Put code in place of `...`, `pass` or TODO; a comment that says what to do stays in the prompt."""
    if start != end:
        start, end = _without_blanks(document, start, end)
    line, content = start[0], document.content(start[0])
    if start[0] != end[0] or len(content) > LONG_LINE:
        return None
    head = _indent(content)
    if (todo := _todo_comment(document, content)) is not None:
        change = _replacing(document, (line, len(head)), (line, len(content)))
        hole = replace(change.hole, prefix=change.hole.prefix + encodable(todo) + "\n" + head, kind="block", draft="")
        return replace(change, hole=hole, stands_in=True)
    for found in PLACEHOLDER.finditer(content):
        if start != end and (found.end() <= start[1] or end[1] <= found.start()):
            continue
        before, behind = content[: found.start()], content[found.end() :]
        fits = AS_STATEMENT.search(before) or (found[0] != "pass" and AS_VALUE.search(before))
        if not fits or not AT_THE_END.match(_without_comment(document, behind)):
            continue
        if document.syntax is not None and _surroundings(document, document.syntax, line, found.end()) != "code":
            continue
        change = _replacing(document, (line, found.start()), (line, found.end()))
        alone = not before.strip() and not behind.strip()
        hole = replace(change.hole, kind="block" if alone else "rest_of_line")
        return replace(change, hole=hole, stands_in=True)
    return None


def docstring(document: Document, start: Place, _: Place) -> Change | None:
    """Write the docstring of the function or class around a place, if it has none."""
    syntax = document.syntax
    if syntax is None or syntax.language.name != "python" or (row := _row_with_code(document, start[0])) is None:
        return None
    for node in _at_row(document, syntax, row):
        if node.type not in ("function_definition", "class_definition"):
            continue
        body = node.child_by_field_name("body")
        header = max((child.end_point.row for child in node.children if child.type == ":"), default=None)
        if body is None or not body.named_children or header is None or body.start_point.row <= header:
            return None
        first = body.named_children[0]
        if first.type == "expression_statement" and first.named_children[0].type == "string":
            return None
        indent = _indent(document.content(body.start_point.row))
        end = header, len(document.content(header))
        change = _inserting(document, end, end, "\n" + indent + '"""')
        hole = replace(change.hole, suffix='"""' + change.hole.suffix, kind="string")
        return replace(change, hole=hole, after='"""')
    return None


def quickfix(document: Document, start: Place, end: Place) -> Change | None:
    """Write the lines of an error afresh, from their first character to their last."""
    if end[0] > start[0] and end[1] == 0:
        end = end[0] - 1, 0
    change = refill(document, (start[0], 0), (end[0], len(document.content(end[0]))))
    kind: GapKind = "line" if start[0] == end[0] else "span"
    return change and replace(change, hole=replace(change.hole, kind=kind))


ACTIONS = (
    Action(name="refill", title="refill the selection", plan=refill, alternatives=3, selects=True),
    Action(name="lightly", title="rewrite the selection lightly", plan=rewrite(0.25), selects=True),
    Action(name="half", title="rewrite half of the selection", plan=rewrite(0.5), selects=True),
    Action(name="fully", title="rewrite the selection fully", plan=rewrite(1.0), selects=True),
    Action(name="finish", title="finish the block", plan=finish),
    Action(name="placeholder", title="fill the placeholder", plan=placeholder),
    Action(name="docstring", title="write the docstring", plan=docstring),
    Action(name="quickfix", title="fix this error", plan=quickfix, selects=True),
)
BY_NAME = {action.name: action for action in ACTIONS}


def choices(change: Change, fill: Fill, files: Files = NO_FOLDERS) -> dict[str, float]:
    """The distinct texts of a fill that change anything and may be shown (see `validated`), best first, and how sure
    each is."""
    texts: dict[str, float] = {}
    old = change.hole.draft
    for candidate in fill.candidates:
        text = trim(change.hole, candidate.text) if change.trims else candidate.text
        # Half of a character, where a token that stays or goes holds the other half.
        broken = text is not None and "\ufffd" in text and "\ufffd" not in old
        if text and text.strip() and text != old and not broken and not (change.stands_in and does_nothing(text)):
            texts.setdefault(text, candidate.confidence)
    wholes = [change.before + text + change.after for text in texts]
    kept, _ = validated(change.trial, wholes, invoked=True, files=files)
    return {text: texts[text] for text, whole in zip(texts, wholes, strict=True) if whole in kept}


def does_nothing(text: str) -> bool:
    """Whether a text is comments and statements that only hold a place."""
    return all(HOLDS_A_PLACE.fullmatch(line.strip()) for line in text.split("\n"))


def is_too_long(document: Document, start: Place, end: Place) -> bool:
    """Whether a selection is more than can be rewritten."""
    chars = -start[1]
    for number in range(start[0], end[0]):
        chars += len(document.lines[number])
        if chars > SELECTION_CHARS:
            return True
    return chars + end[1] > SELECTION_CHARS


def _replacing(document: Document, start: Place, end: Place) -> Change:
    """The change that replaces the text between two places; that text is the hole's draft."""
    hole = build_hole(document, start, end)
    if start[0] == end[0]:
        old = document.lines[start[0]][start[1] : end[1]]
    else:
        first, *between = document.lines[start[0] : end[0]]
        old = "".join([first[start[1] :], *between, document.lines[end[0]][: end[1]]])
    draft = encodable(lf(old))
    return Change(start=start, end=end, hole=_encodable(replace(hole, draft=draft)), trial=Trial(document, start, end))


def _inserting(document: Document, start: Place, end: Place, before: str) -> Change:
    """The change that puts `before`, which ends in an indent, and a fill in place of the blanks between two places."""
    hole = build_hole(document, start, end)
    return Change(
        start=start,
        end=end,
        hole=_encodable(replace(hole, prefix=hole.prefix + before, kind="block")),
        trial=Trial(document, start, end),
        before=before,
    )


def _encodable(hole: Hole) -> Hole:
    return replace(hole, prefix=encodable(hole.prefix), suffix=encodable(hole.suffix))


def _without_blanks(document: Document, start: Place, end: Place) -> tuple[Place, Place]:
    """The selection without the blanks and line ends around it; empty if it holds nothing else."""
    (line, column), (last, stop) = start, end
    while (line, column) < (last, stop):
        rest = document.lines[line][column : stop if line == last else None]
        if rest.strip():
            column += len(rest) - len(rest.lstrip())
            break
        line, column = line + 1, 0
    while (line, column) < (last, stop):
        rest = document.lines[last][column if line == last else 0 : stop]
        if rest.strip():
            stop -= len(rest) - len(rest.rstrip())
            break
        last, stop = last - 1, len(document.lines[last - 1])
    return ((line, column), (last, stop)) if (line, column) < (last, stop) else (start, start)


def _row_with_code(document: Document, row: int) -> int | None:
    """The nearest line from here upwards that is not blank; None if it is too long to look at."""
    while row and not document.content(row).strip():
        row -= 1
    content = document.content(row)
    return row if content.strip() and len(content) < LONG_LINE else None


def _at_row(document: Document, syntax: Syntax, row: int) -> Iterator[Node]:
    """The nodes at a line's first character that is not blank, innermost first."""
    begin, head = document.offsets.before(row), byte_length(_indent(document.content(row)))
    return syntax.around(begin + head + 1)


def _block(document: Document, syntax: Syntax, row: int) -> tuple[int, int] | None:
    """The innermost block that a line opens or stands in: the rows of its opener and of the last line within."""
    node = _block_node(document, syntax, row)
    if node is None:
        return None
    opener = node.start_point.row
    if node.parent is not None and node.parent.type in syntax.language.headers:
        opener = _row_with_code(document, max(0, node.start_point.row - 1)) or node.parent.start_point.row
    last = node.end_point.row - (node.end_point.column == 0)
    closer = node.children[-1] if node.children else None
    if closer is not None and closer.type in CLOSERS:
        last = closer.start_point.row - 1
    while last > opener and not document.content(last).strip():
        last -= 1
    # On one line with what opens it a block has no room.
    return (opener, last) if last >= opener and node.end_point.row > opener else None


def _block_node(document: Document, syntax: Syntax, row: int) -> Node | None:
    blocks = syntax.language.blocks
    content = document.content(row)
    begin, head = document.offsets.before(row), byte_length(_indent(content))
    for node in syntax.around(begin + byte_length(content.rstrip())):
        opens_here = node.start_point.row == row < node.end_point.row
        # A block without marks begins with its first line.
        if node.type in blocks and opens_here and node.start_byte > begin + head:
            return node
    for node in _at_row(document, syntax, row):
        if node.type in blocks:
            return node
        if node.start_point.row == row:
            opened = [child for child in node.children if child.type in blocks]
            if opened:
                return opened[0]
    return None


def _todo_comment(document: Document, content: str) -> str | None:
    """A line that is nothing but a comment with TODO, without its indent."""
    marks = document.syntax.language.line_comments if document.syntax is not None else ("#", "//", "--", ";")
    stripped = content.strip()
    mark = next((mark for mark in marks if stripped.startswith(mark)), None)
    return stripped if mark is not None and re.match(r"\W*TODO\b", stripped[len(mark) :]) else None


def _without_comment(document: Document, behind: str) -> str:
    marks = document.syntax.language.line_comments if document.syntax is not None else ()
    return "" if behind.lstrip().startswith(marks) and marks else behind


def _surroundings(document: Document, syntax: Syntax, line: int, column: int) -> str:
    return syntax.surroundings(document.offset((line, column)))


def _indent(content: str) -> str:
    return content[: len(content) - len(content.lstrip(" \t"))]
