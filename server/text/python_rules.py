"""What Python refuses and its grammar for tree-sitter lets pass: where lines begin, blocks without a statement, and the
order of arguments.

Only nodes that touch a span are looked at, so the costs follow the span and the depth, not the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tree_sitter import Node

CLAUSES = frozenset(("elif_clause", "else_clause", "except_clause", "except_group_clause", "finally_clause"))
ENDS_OF_TRY = frozenset(("except_clause", "except_group_clause", "finally_clause"))
NO_STATEMENTS = frozenset(("comment", "line_continuation"))
NAMED_ARGUMENTS = frozenset(("keyword_argument", "dictionary_splat"))
AFTER_NAMED = frozenset((*NAMED_ARGUMENTS, "list_splat"))
DEFAULTS = frozenset(("default_parameter", "typed_default_parameter"))
PLAIN = frozenset(("identifier", "typed_parameter"))
# What ends the run of parameters in which one with a default must not stand before one without.
ENDS_A_RUN = frozenset(("keyword_separator", "list_splat_pattern"))
PYTHON_2 = frozenset(("print_statement", "exec_statement"))


def refused(root: Node, begin: int, end: int) -> bool:
    """Whether a node that touches the bytes [begin, end] is one that Python refuses."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        if _is_refused(node, begin, end):
            return True
        nodes.extend(_touched(node, begin, end))
    return False


def _touched(node: Node, begin: int, end: int) -> Iterator[Node]:
    """The children that touch the bytes [begin, end], in order."""
    cursor = node.walk()
    more = cursor.goto_first_child_for_byte(max(0, begin - 1)) is not None
    while more and (child := cursor.node) is not None and child.start_byte <= end:
        yield child
        more = cursor.goto_next_sibling()


def _is_refused(node: Node, begin: int, end: int) -> bool:
    if node.type in ("module", "block"):
        return _is_ragged(node, begin, end)
    if node.type in PYTHON_2:
        return True
    if node.type == "argument_list":
        named = [child.type for child in node.named_children if child.type not in NO_STATEMENTS]
        return any(one in NAMED_ARGUMENTS and other not in AFTER_NAMED for one, other in pairwise(named))
    if node.type in ("parameters", "lambda_parameters"):
        return _lacks_a_default(node)
    clauses = [child for child in node.children if child.type in CLAUSES]
    if node.type == "try_statement" and not any(clause.type in ENDS_OF_TRY for clause in clauses):
        return True
    return any(
        clause.start_point.row > node.start_point.row and clause.start_point.column != node.start_point.column
        for clause in clauses
    )


def _is_ragged(block: Node, begin: int, end: int) -> bool:
    """Whether a block has no statement, or statements in it begin at different depths."""
    first = next((child for child in block.named_children if child.type not in NO_STATEMENTS), None)
    if block.type == "module":
        column = 0
    elif first is None:
        return True
    elif _last_row_of_header(block) == first.start_point.row:
        return False
    else:
        column = first.start_point.column
    for child in _touched(block, begin, end):
        if child.is_named and child.type not in NO_STATEMENTS and child.start_point.column != column:
            before = child.prev_named_sibling
            if before is None or before.end_point.row < child.start_point.row:
                return True
    return False


def _last_row_of_header(block: Node) -> int:
    colon = block.prev_sibling
    while colon is not None and colon.type != ":":
        colon = colon.prev_sibling
    return -1 if colon is None else colon.end_point.row


def _lacks_a_default(parameters: Node) -> bool:
    """Whether a parameter without a default follows one with a default."""
    seen = False
    for child in parameters.named_children:
        if child.type in ENDS_A_RUN or (child.type == "typed_parameter" and child.text and child.text[:1] == b"*"):
            return False
        if child.type in DEFAULTS:
            seen = True
        elif seen and child.type in PLAIN:
            return True
    return False
