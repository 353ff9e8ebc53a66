"""A fill in a YAML document that has a schema; see tree_schema.py.

The grammar's tree says what each value is, by YAML 1.2's core schema. Nothing is said of documents with anchors,
aliases, tags, merges or several parts.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tree_sitter import Node, Parser

from midspan.server.text.languages import language_of
from midspan.server.validation.splice import Objection, Splice
from midspan.server.validation.tree_schema import Kind, OddError, objection_by

OBJECTS, ARRAYS = ("block_mapping", "flow_mapping"), ("block_sequence", "flow_sequence")
PAIRS = ("block_mapping_pair", "flow_pair")
WRAPPERS = ("block_node", "flow_node", "plain_scalar")
CONSTANTS = {"true": True, "false": False, "null": None, "~": None}


class YamlShape:
    """YAML as configuration files have it; see tree_schema.Shape."""

    language = "yaml"
    most_chars = 20_000

    def root(self, text: bytes) -> Node | None:
        """See Shape."""
        root = _parser().parse(text).root_node
        documents = [child for child in root.named_children if child.type == "document"]
        if root.has_error or len(documents) != 1:
            return None
        values = [child for child in documents[0].named_children if child.type in WRAPPERS]
        return _inner(values[0]) if len(values) == 1 else None

    def kind(self, node: Node) -> Kind:
        """See Shape."""
        return "object" if node.type in OBJECTS else "array" if node.type in ARRAYS else "scalar"

    def pairs(self, node: Node) -> list[tuple[Node, Node, Node]]:
        """See Shape; a key without a value is still being written."""
        found = []
        for pair in node.named_children:
            key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
            if pair.type in PAIRS and key is not None and value is not None:
                found.append((pair, _inner(key), _inner(value)))
        return found

    def items(self, node: Node) -> list[Node]:
        """See Shape."""
        if node.type == "block_sequence":
            lines = [child for child in node.named_children if child.type == "block_sequence_item"]
            return [_inner(value) for line in lines for value in line.named_children if value.type in WRAPPERS]
        return [_inner(child) for child in node.named_children if child.type in WRAPPERS]

    def scalar(self, node: Node) -> Any:
        """See Shape."""
        text = (node.text or b"").decode("utf-8", "surrogatepass")
        try:
            return _scalar(node.type, text)
        except ValueError as error:
            raise OddError from error

    def holds(self, node: Node, begin: int, end: int) -> bool:
        """See Shape: a block has no brackets, so any part of it that is not the fill's will do."""
        return node.start_byte < begin or end < node.end_byte


SHAPE = YamlShape()


def objection(splice: Splice) -> Objection | None:
    """What to say of a fill that brings an error by the document's schema."""
    return objection_by(SHAPE, splice)


def _inner(node: Node) -> Node:
    """What a value's node wraps. Raises OddError for what stands for something else."""
    while node.type in WRAPPERS:
        # Beside it there is an anchor, a tag or a comment.
        inner = node.named_child(0) if node.named_child_count == 1 else None
        if inner is None or inner.type == "alias":
            raise OddError
        node = inner
    return node


def _scalar(kind: str, text: str) -> Any:
    """A value by its node's type. Raises ValueError."""
    if kind in ("boolean_scalar", "null_scalar"):
        return CONSTANTS[text.lower()]
    if kind == "integer_scalar":
        return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
    if kind == "float_scalar":
        return float(text)
    if kind == "double_quote_scalar":
        return json.loads(text, strict=False)
    return text[1:-1].replace("''", "'") if kind == "single_quote_scalar" else text


@cache
def _parser() -> Parser:
    return Parser(language_of("yaml").grammar())
