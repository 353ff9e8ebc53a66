"""A fill in a JSON document that has a schema; see tree_schema.py."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from tree_sitter import Node, Parser

from midspan.server.text.languages import language_of
from midspan.server.validation.splice import Objection, Splice
from midspan.server.validation.tree_schema import Kind, OddError, objection_by


class JsonShape:
    """JSON with comments; see tree_schema.Shape."""

    language = "json"
    most_chars = 100_000

    def root(self, text: bytes) -> Node | None:
        """See Shape."""
        root = _parser().parse(text).root_node
        values = [child for child in root.named_children if child.type != "comment"]
        return None if root.has_error or len(values) != 1 else values[0]

    def kind(self, node: Node) -> Kind:
        """See Shape."""
        return "object" if node.type == "object" else "array" if node.type == "array" else "scalar"

    def pairs(self, node: Node) -> list[tuple[Node, Node, Node]]:
        """See Shape."""
        found = []
        for pair in node.named_children:
            key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
            if pair.type == "pair" and key is not None and value is not None:
                found.append((pair, key, value))
        return found

    def items(self, node: Node) -> list[Node]:
        """See Shape."""
        return [child for child in node.named_children if child.type != "comment"]

    def scalar(self, node: Node) -> Any:
        """See Shape."""
        try:
            return json.loads(node.text or b"", strict=False)
        except ValueError as error:
            raise OddError from error

    def holds(self, node: Node, begin: int, end: int) -> bool:
        """See Shape: both brackets stand outside."""
        return node.start_byte < begin and end < node.end_byte


SHAPE = JsonShape()


def objection(splice: Splice) -> Objection | None:
    """What to say of a fill that brings an error by the document's schema."""
    return objection_by(SHAPE, splice)


@cache
def _parser() -> Parser:
    return Parser(language_of("json").grammar())
