"""A fill in a document that has a schema and is parsed into a tree: it makes no error that was not there without it.

Without it means: what the fill touches left out of the document, so that a key or a word that is being written does not
count as wrong already; a value of the wrong type does, where the text before parses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tree_sitter import Node

from midspan.server.validation.schema_errors import INCOMPLETE, SHORT, counted, key_of, words_for
from midspan.server.validation.schema_files import check_in_time, schema_of
from midspan.server.validation.splice import Objection, Splice

if TYPE_CHECKING:
    from midspan.server.validation.schema_check import Path, SchemaCheck, Wrong

NOTHING = object()
# Of this thread's processor time, for each reading of a document.
PATIENCE_S = 0.02
MOST_KEY_CHARS = 256
Kind = Literal["object", "array", "scalar"]


class OddError(ValueError):
    """A document that its language's own reader would refuse, or that no person would write."""


class TooLongError(Exception):
    """A document takes longer to be looked at than a suggestion may wait for."""


class Shape(Protocol):
    """How a language writes objects, arrays and other values, as nodes of its tree."""

    language: str
    most_chars: int  # of longer documents nothing is said

    def root(self, text: bytes) -> Node | None:
        """The node of the document's value; None where it does not parse, or has none or several. Raises OddError."""

    def kind(self, node: Node) -> Kind:
        """What a value's node is."""

    def pairs(self, node: Node) -> list[tuple[Node, Node, Node]]:
        """The members of an object: node, key's node and value's node."""

    def items(self, node: Node) -> list[Node]:
        """The values of an array."""

    def scalar(self, node: Node) -> Any:
        """Any other value. Raises OddError."""

    def holds(self, node: Node, begin: int, end: int) -> bool:
        """Whether an object or array is more than what stands in the bytes [begin, end), some of which are in it."""


@dataclass(slots=True)
class _Reading:
    """A document's value with its node, and the paths of what stands in the bytes [begin, end), once that is looked at.

    Past `limit`, of this thread's processor time, nothing is looked at any more.
    """

    shape: Shape
    begin: int
    end: int
    root: Node
    limit: float
    value: Any = None
    touched: list[Path] = field(default_factory=list)


def objection_by(shape: Shape, splice: Splice) -> Objection | None:
    """What to say of a fill that brings an error by the document's schema.

    Nothing where the document with the fill does not parse or takes too long, and while the schema is not read yet.
    """
    try:
        return _objection(shape, splice)
    except TooLongError:
        return None


def _objection(shape: Shape, splice: Splice) -> Objection | None:
    if len(splice.before) + len(splice.fill) + len(splice.after) > shape.most_chars:
        return None
    named = schema_of(shape.language, splice.uri, (splice.before, splice.after), splice.files)
    check = None if named is None else check_in_time(named.path, splice.files.patience_s)
    reading = None if check is None else _read(shape, splice.before, splice.fill, splice.after)
    if named is None or check is None or reading is None:
        return None
    # JSON's text may hold the key elsewhere than in the document's first level.
    own = reading.value.get("$schema") if isinstance(reading.value, dict) else None
    if shape.language == "json" and named.reference is not None and own != named.reference:
        return None
    wrong = check.errors(reading.value)
    return _new(check, wrong, splice, reading) if wrong else None


def _new(check: SchemaCheck, wrong: list[Wrong], splice: Splice, reading: _Reading) -> Objection | None:
    """What to say of errors of a document with a fill; nothing of those that are there without it as well."""
    shape, ends = reading.shape, (reading.begin, reading.end)
    reading.limit = time.thread_time() + PATIENCE_S
    try:
        before = counted(check.errors(_without(reading.root, (), reading)))
        cut = [_cut(shape, reading.root, (), edge) for edge in ends]
    except (OddError, RecursionError):
        return None
    as_it_was = _read(shape, splice.before, "", splice.after)
    if as_it_was is not None:
        # Of what is being written only the type is settled: an empty string is none of the values allowed.
        errors = check.errors(as_it_was.value) or ()
        before |= counted([one for one in errors if one.keyword == "type"])
    for key, one in ((key_of(one), one) for one in wrong):
        before[key] -= one.keys
        if one.keyword in SHORT and one.path in cut:
            continue
        own = any(one.path[: len(path)] == path for path in reading.touched)
        if before[key] < 0 and (own or one.keyword not in INCOMPLETE):
            return Objection(kind="schema", words=words_for(one), spans=_spans(splice, reading, one.path))
    return None


def _spans(splice: Splice, reading: _Reading, path: Path) -> tuple[tuple[int, int], ...]:
    """What the fill writes of the value at a path; all of the fill where that holds it whole."""
    node = reading.root
    for step in path:
        node = next((value for key, value in _children(reading.shape, node) if key == step), node)
    whole = splice.text.encode("utf-8", "surrogatepass")
    before, until = (whole[:at].decode("utf-8", "surrogatepass") for at in (node.start_byte, node.end_byte))
    return splice.of_fill(len(before), len(until))


def _read(shape: Shape, before: str, fill: str, after: str) -> _Reading | None:
    """The document with a fill; None where it does not parse. Raises TooLongError."""
    head, middle, tail = (part.encode("utf-8", "surrogatepass") for part in (before, fill, after))
    try:
        root = shape.root(head + middle + tail)
        if root is None:
            return None
        limit = time.thread_time() + PATIENCE_S
        reading = _Reading(shape, len(head), len(head) + len(middle), root, limit)
        reading.value = _value(root, reading)
    except (OddError, RecursionError):
        return None
    return reading


def _value(node: Node, reading: _Reading) -> Any:
    """The node's value. Raises OddError or TooLongError."""
    shape, kind = reading.shape, reading.shape.kind(node)
    if kind == "scalar":
        return shape.scalar(node)
    if time.thread_time() > reading.limit:
        raise TooLongError
    if kind == "object":
        return {key: _value(value, reading) for _, key, value in _pairs(shape, node)}
    return [_value(item, reading) for item in shape.items(node)]


def _without(node: Node, path: Path, reading: _Reading) -> Any:
    """The node's value without what the fill touches: of what holds the whole fill, only the parts that do."""
    shape = reading.shape
    if node.end_byte <= reading.begin or reading.end <= node.start_byte:
        return _value(node, reading)
    kind = shape.kind(node)
    if kind == "scalar" or not shape.holds(node, reading.begin, reading.end):
        reading.touched.append(path)
        return None
    if kind == "object":
        pairs = [(key, _part(pair, value, (*path, key), reading)) for pair, key, value in _pairs(shape, node)]
        return {key: value for key, value in pairs if value is not NOTHING}
    items = [_part(item, item, (*path, number), reading) for number, item in enumerate(shape.items(node))]
    return [item for item in items if item is not NOTHING]


def _part(whole: Node, value: Node, path: Path, reading: _Reading) -> Any:
    """A member's or an item's value without what the fill touches; NOTHING where that is all of it."""
    known = len(reading.touched)
    left = _without(value, path, reading)
    if path in reading.touched[known:]:
        return NOTHING
    # A key that the fill touches is as much the fill's as its value.
    if whole.start_byte < reading.end and reading.begin < whole.end_byte and whole is not value:
        inside = value.start_byte < reading.begin and reading.end < value.end_byte
        if not inside:
            reading.touched.append(path)
            return NOTHING
    return left


def _cut(shape: Shape, node: Node, path: Path, edge: int) -> Path | None:
    """The path of the string that the byte `edge` lies within; of a key, the path of its object."""
    kind = shape.kind(node)
    if kind == "object":
        for pair, key, value in _pairs(shape, node):
            if pair.start_byte < edge < pair.end_byte:
                # The schema's errors about a key are its object's.
                return path if edge < value.start_byte else _cut(shape, value, (*path, key), edge)
        return None
    if kind == "array":
        for number, item in enumerate(shape.items(node)):
            if item.start_byte < edge < item.end_byte:
                return _cut(shape, item, (*path, number), edge)
        return None
    return path if node.start_byte < edge < node.end_byte else None


def _pairs(shape: Shape, node: Node) -> list[tuple[Node, str, Node]]:
    """The members of an object by their keys."""
    found = []
    for pair, key, value in shape.pairs(node):
        name = shape.scalar(key) if shape.kind(key) == "scalar" else None
        if not isinstance(name, str) or len(name) > MOST_KEY_CHARS:
            raise OddError
        found.append((pair, name, value))
    return found


def _children(shape: Shape, node: Node) -> Iterator[tuple[str | int, Node]]:
    kind = shape.kind(node)
    if kind == "object":
        yield from ((key, value) for _, key, value in _pairs(shape, node))
    elif kind == "array":
        yield from enumerate(shape.items(node))
