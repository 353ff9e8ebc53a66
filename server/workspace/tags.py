"""Definitions in a text, by the tags queries of the grammars: headers and outlines, never the bodies of functions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile

import msgspec
from tree_sitter import Node, Parser, Query, QueryCursor

from midspan.server.text.languages import Language
from midspan.server.text.parsing import parse_in_pieces

OUTLINE_CHARS, CONSTANT_CHARS = 500, 160
MAX_DEFINITIONS = 5000  # of one file
PATIENCE_S, READ_BYTES = 3.0, 65_536
# Packages whose queries a language has: TypeScript's names only what JavaScript's does not.
QUERIES = {
    "tree_sitter_typescript": ("tree_sitter_javascript", "tree_sitter_typescript"),
    **{
        package: (package,)
        for package in (
            "tree_sitter_python", "tree_sitter_javascript", "tree_sitter_go", "tree_sitter_rust", "tree_sitter_java",
            "tree_sitter_c", "tree_sitter_cpp", "tree_sitter_ruby", "tree_sitter_php", "tree_sitter_lua",
        )
    },
}  # fmt: skip
# What the packages' own queries leave out; C#'s wheel holds its queries where no import finds them.
ADDED = {
    "tree_sitter_go": """
        (const_declaration (const_spec name: (identifier) @name) @definition.constant)
        (source_file (var_declaration (var_spec name: (identifier) @name) @definition.constant))""",
    "tree_sitter_typescript": """
        (type_alias_declaration name: (type_identifier) @name) @definition.type
        (enum_declaration name: (identifier) @name) @definition.type
        (program (export_statement (lexical_declaration
            (variable_declarator name: (identifier) @name value: [(string) (number) (object) (array)]))
            @definition.constant))""",
    "tree_sitter_rust": """
        (const_item name: (identifier) @name) @definition.constant""",
    "tree_sitter_c_sharp": """
        (class_declaration name: (identifier) @name) @definition.class
        (interface_declaration name: (identifier) @name) @definition.interface
        (struct_declaration name: (identifier) @name) @definition.class
        (enum_declaration name: (identifier) @name) @definition.type
        (method_declaration name: (identifier) @name) @definition.method""",
}
FUNCTIONS = ("function", "method", "macro")
LEFT_OUT = ("module", "field")
BLANK_LINES = re.compile(r"\n[ \t]*(?=\n)")


class Definition(msgspec.Struct, frozen=True, array_like=True):
    """What a name means in one file: the line it stands on and its number, and what a prompt may show of it."""

    name: str
    row: int
    head: str
    text: str


@dataclass(frozen=True, slots=True)
class _Tag:
    """A match of a query: the whole statement in bytes, and the body within it that a header does without."""

    name: str
    row: int
    head: str
    kind: str
    begin: int
    end: int
    body: tuple[int, int] | None


def has_tags(language: Language) -> bool:
    """Whether there is a query for a language's definitions."""
    return language.package in QUERIES or language.package in ADDED


def definitions(language: Language, data: bytes) -> list[Definition]:
    """The definitions in UTF-8 text, in order; none in a language without a query, and where a parse takes too long.

    Takes up to PATIENCE_S and more: not for the event loop.
    """
    root = _parsed(language, data) if has_tags(language) else None
    if root is None:
        return []
    tags = sorted(_tags(language, root, data), key=lambda tag: (tag.begin, -tag.end))[:MAX_DEFINITIONS]
    found = []
    owners: list[_Tag] = []
    for number, tag in enumerate(tags):
        while owners and owners[-1].end <= tag.begin:
            owners.pop()
        if tag.kind in LEFT_OUT:
            continue
        owner = owners[-1] if owners and owners[-1].kind not in FUNCTIONS else None
        above = "" if owner is None else owner.head + "\n"
        found.append(Definition(tag.name, tag.row, tag.head, above + _shown(tag, tags[number + 1 :], data)))
        owners.append(tag)
    return found


def _parsed(language: Language, data: bytes) -> Node | None:
    """The tree's root; None when the parser, which some text makes quadratic, is not done in time."""
    late = time.thread_time() + PATIENCE_S
    parser = Parser(language.grammar())
    try:
        tree = parse_in_pieces(
            parser, lambda offset: data[offset : offset + READ_BYTES], stop=lambda: time.thread_time() > late
        )
    except ValueError:
        return None
    return tree.root_node


@cache
def _query(package: str, function: str) -> Query:
    from midspan.server.text.languages import TABLE

    [grammar] = [one.grammar() for one in TABLE if (one.package, one.function) == (package, function)]
    texts = [(files(name) / "queries" / "tags.scm").read_text("utf-8") for name in QUERIES.get(package, ())]
    source = "\n".join([*texts, ADDED.get(package, "")])
    query = Query(grammar, source)
    data = source.encode()
    for number in range(query.pattern_count):
        pattern = data[query.start_byte_for_pattern(number) : query.end_byte_for_pattern(number)]
        if b"@definition." not in pattern:
            query.disable_pattern(number)
    return query


def _tags(language: Language, root: Node, data: bytes) -> Iterator[_Tag]:
    """Every definition once, whatever number of patterns it matches."""
    seen = set()
    # No progress callback: the binding crashes on one.
    for _, captures in QueryCursor(_query(language.package, language.function)).matches(root):
        kind = next((name for name in captures if name.startswith("definition.")), None)
        if kind is None or not captures.get("name"):
            continue
        node, name = captures[kind][-1], captures["name"][0]
        if name.id in seen:
            continue
        seen.add(name.id)
        whole = _statement(node, language)
        body = _body(whole) if kind.removeprefix("definition.") in FUNCTIONS else None
        yield _Tag(
            name=data[name.start_byte : name.end_byte].decode("utf-8", "replace"),
            row=name.start_point.row,
            head=_lines(data, name.start_byte, name.end_byte + OUTLINE_CHARS).partition("\n")[0].strip(),
            kind=kind.removeprefix("definition."),
            begin=whole.start_byte,
            end=whole.end_byte,
            body=None if body is None else (body.start_byte, body.end_byte),
        )


def _statement(node: Node, language: Language) -> Node:
    """The statement that a defining node begins: `type T struct`, not `T struct`; decorators count."""
    while (parent := node.parent) is not None and parent.parent is not None and parent.type not in language.blocks:
        if parent.start_point.row != node.start_point.row and parent.type != "decorated_definition":
            break
        node = parent
    return node


def _body(node: Node, depth: int = 4) -> Node | None:
    """The first body within a few levels: that of an arrow function stands in a declaration's value."""
    if (body := node.child_by_field_name("body")) is not None:
        return body
    if depth:
        for child in node.named_children:
            if (body := _body(child, depth - 1)) is not None:
                return body
    return None


def _shown(tag: _Tag, later: list[_Tag], data: bytes) -> str:
    """A function's header; of anything else the text, without the bodies of the functions among the `later` tags."""
    if tag.kind in FUNCTIONS:
        return _cut(_lines(data, tag.begin, tag.body[0] if tag.body else tag.end).rstrip())
    if tag.kind == "constant":
        return _lines(data, tag.begin, tag.end).partition("\n")[0][:CONSTANT_CHARS].rstrip()
    kept, at = [], data.rfind(b"\n", 0, tag.begin) + 1
    for inner in takewhile(lambda one: one.begin < tag.end, later):
        if inner.kind in FUNCTIONS and inner.body and at <= inner.begin:
            kept.append(data[at : inner.body[0]].rstrip())
            at = inner.body[1]
    kept.append(data[at : tag.end])
    return _cut(BLANK_LINES.sub("", b"".join(kept).decode("utf-8", "replace").replace("\r", "")).rstrip())


def _lines(data: bytes, begin: int, end: int) -> str:
    """The text with the indent of its first line, and LF line ends."""
    begin = data.rfind(b"\n", 0, begin) + 1
    return data[begin:end].decode("utf-8", "replace").replace("\r", "")


def _cut(text: str) -> str:
    """At most OUTLINE_CHARS, whole lines if there are several."""
    if len(text) <= OUTLINE_CHARS:
        return text
    return text[:OUTLINE_CHARS].rpartition("\n")[0] or text[:OUTLINE_CHARS]
