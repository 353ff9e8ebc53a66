"""What Python's own compiler says of the statements around a gap: `return` outside a function, an argument given twice.

Not the whole file is compiled, which would take too long, but what the gap's lines touch of it: whole statements of its
first level, or of the body of a class.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Sequence

from tree_sitter import Node

# A few milliseconds; of longer statements nothing is said.
MAX_BYTES = 16_384
# The time for lambdas within lambdas, which Python does not bound, grows by the square.
MAX_LAMBDAS = 100
# Statements of a class, at whatever depth they stand.
IN_A_CLASS = "class _:\n"


def refused(root: Node, begin: int, end: int, read: Callable[[int, int | None], bytes]) -> bool:
    """Whether Python refuses the statements that touch the bytes [begin, end]; `read` gives the text of a span."""
    statements, head = _touched(root, begin, end), ""
    while len(statements) == 1 and (body := _body_of_class(statements[0])) is not None:
        inner = _touched(body, begin, end)
        if not inner or begin <= body.start_byte:
            break
        statements, head = inner, IN_A_CLASS
    if not statements or statements[-1].end_byte - statements[0].start_byte > MAX_BYTES:
        return False
    first = statements[0]
    source = read(first.start_byte - (first.start_point.column if head else 0), statements[-1].end_byte)
    if source.count(b"lambda") > MAX_LAMBDAS:
        return False
    # Of the statement behind them only its depth counts.
    behind = _next(statements[-1])
    depth = b"" if behind is None else read(behind.start_byte - behind.start_point.column, behind.start_byte)
    following = "" if behind is None else f"\n{depth.decode('utf-8', 'surrogatepass')}pass"
    return not _compiles(head + source.decode("utf-8", "surrogatepass") + following)


def _next(statement: Node) -> Node | None:
    """The next statement, on a line of its own."""
    after = statement.next_named_sibling
    while after is not None and after.type == "comment":
        after = after.next_named_sibling
    return after if after is not None and after.start_point.row > statement.end_point.row else None


def _touched(parent: Node, begin: int, end: int) -> Sequence[Node]:
    return [child for child in parent.named_children if child.start_byte <= end and child.end_byte >= begin]


def _body_of_class(statement: Node) -> Node | None:
    if statement.type == "decorated_definition":
        statement = statement.child_by_field_name("definition") or statement
    return statement.child_by_field_name("body") if statement.type == "class_definition" else None


def _compiles(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's text, as for a backslash that escapes nothing
        try:
            compile(source + "\n", "", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep for it
            return False
    return True
