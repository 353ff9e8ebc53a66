"""Holes as pictures: the cursor or selection in a file, then the kind of gap; and the bounds of prefix and suffix."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from midspan.server.text.documents import Document
from midspan.server.text.hole import PREFIX_CHARS, SUFFIX_CHARS, build_hole
from midspan.server.text.line_index import Offsets
from midspan.server.text.syntax import Syntax
from tests.server.pictures import FIXTURES, cut, named, place

LANGUAGES = (
    "c:c cpp:cpp cs:csharp css:css go:go html:html java:java js:javascript json:json lua:lua md:markdown php:php "
    "py:python rb:ruby rs:rust sh:shellscript sql:sql toml:toml ts:typescript tsx:typescriptreact yaml:yaml"
)
BY_ENDING = dict(pair.split(":") for pair in LANGUAGES.split())
PICTURES = sorted((FIXTURES / "holes").glob("*.txt"))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_hole(path: Path) -> None:
    sections = named(path)
    before, between, after = cut(sections[""])
    document = Document("file:///a", sections.get("language", "python").strip(), 1, before + between + after)
    end = place(before + between) if between else None
    hole = build_hole(document, place(before), end)
    assert (hole.prefix, hole.suffix, hole.kind) == (before, after, sections["kind"].strip())


def test_line_ends_become_lf() -> None:
    document = Document("file:///a.py", "python", 1, "a = 1\r\nb = \r\nc\r")
    hole = build_hole(document, (1, 4))
    assert (hole.prefix, hole.suffix) == ("a = 1\nb = ", "\nc\n")


def long_document(line: str = "value = compute(value)\n", lines: int = 5000) -> Document:
    return Document("file:///a.py", "python", 1, line * lines)


def test_prefix_and_suffix_are_cut_at_line_starts_within_the_budgets() -> None:
    hole = build_hole(long_document(), (2500, 5))
    assert PREFIX_CHARS // 2 <= len(hole.prefix) <= PREFIX_CHARS
    assert len(hole.suffix) <= SUFFIX_CHARS
    assert hole.prefix.startswith("value =")
    assert hole.suffix.endswith(")\n")


def changes_of_the_beginning(lines: list[str], typed: int) -> int:
    """The number of changes of the prefix's beginning while so many characters are typed after numbered lines."""
    document = Document("file:///a.txt", "plaintext", 1, "\n".join([*lines, ""]))
    last, heads = len(lines), []
    for column in range(typed):
        document.change(((last, column), (last, column)), "x", "utf-32")
        hole = build_hole(document, (last, column + 1))
        assert PREFIX_CHARS // 2 <= len(hole.prefix) <= PREFIX_CHARS
        heads.append(hole.prefix[:60])
    return sum(one != other for one, other in itertools.pairwise(heads))


@pytest.mark.parametrize("width", [20, 100, 110, 300, 9000])
def test_typing_seldom_moves_the_beginning_of_the_prefix(width: int) -> None:
    # 900 characters push out 9 lines of 100; the beginning may move only when an anchor is among them.
    numbered = [f"{number:>{width - 1}}"[::-1] for number in range(1000)]
    assert changes_of_the_beginning(numbered, typed=900) <= 3


def test_the_kept_beginning_is_the_coarsest_anchor_that_leaves_half() -> None:
    document = Document("file:///a.txt", "plaintext", 1, "".join(f"{number:<99}\n" for number in range(1000)))
    assert [int(build_hole(document, (line, 0)).prefix[:4]) for line in (500, 540, 541)] == [448, 480, 496]


@pytest.mark.parametrize("column", [0, 5999, 6001, 9000, 50_000])
def test_a_hole_in_one_endless_line(column: int) -> None:
    document = Document("file:///a.py", "python", 1, "x" * 50_000)
    hole = build_hole(document, (0, column))
    assert len(hole.prefix) <= PREFIX_CHARS
    assert len(hole.prefix) >= min(column, PREFIX_CHARS // 2)
    assert len(hole.suffix) <= SUFFIX_CHARS


def test_typing_in_an_endless_line_moves_the_beginning_only_to_anchors() -> None:
    document = Document("file:///a.txt", "plaintext", 1, "".join(f"{number:<4}" for number in range(9000)))
    begins = {int(build_hole(document, (0, column)).prefix[:4]) * 4 for column in range(20_000, 22_000)}
    assert begins == {14 * 1024, 15 * 1024, 16 * 1024}


def test_a_short_line_between_endless_ones_keeps_half_the_budgets_in_crlf_too() -> None:
    document = Document("file:///a.py", "python", 1, "y" * 9000 + "\r\nx = \r\n" + "z" * 9000 + "\r\n")
    hole = build_hole(document, (1, 4))
    assert PREFIX_CHARS // 2 <= len(hole.prefix) <= PREFIX_CHARS
    assert hole.prefix.strip("y") == "\nx = "
    assert SUFFIX_CHARS // 2 <= len(hole.suffix) <= SUFFIX_CHARS
    assert hole.suffix.strip("z") == "\n"


def test_a_menu_entry_is_the_end_of_the_prefix() -> None:
    document = Document("file:///a.py", "python", 1, "items.app\n")
    hole = build_hole(document, (0, 6), (0, 9), selected="append")
    assert (hole.prefix, hole.suffix, hole.kind) == ("items.append", "\n", "rest_of_line")


def test_plain_text_has_holes_without_a_tree() -> None:
    document = Document("file:///a.txt", "plaintext", 1, "hello # wor")
    assert document.syntax is None
    assert build_hole(document, (0, 11)).kind == "rest_of_line"


@pytest.mark.parametrize("path", sorted((FIXTURES / "languages").iterdir()), ids=lambda path: path.name)
def test_letters_typed_in_a_word_need_no_parse(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of gap after letters equals that of a fresh tree; a quote is parsed at once."""
    language, text = BY_ENDING[path.suffix[1:]], path.read_text(encoding="utf-8")
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", 60.0)
    plain, calls = Syntax.parse, list[None]()

    def parse(self: Syntax, lines: list[str], offsets: Offsets, patience_s: float) -> bool:
        calls.append(None)
        return plain(self, lines, offsets, patience_s)

    monkeypatch.setattr(Syntax, "parse", parse)
    ends = [found.end() for found in re.finditer(r"\w+(?![\"'])", text)]
    for at in ends[:: max(1, len(ends) // 40)]:
        line, column = place(text[:at])
        document = Document("file:///a", language, 1, text)
        calls.clear()
        for number, letter in enumerate("qa"):
            document.change(((line, column + number), (line, column + number)), letter, "utf-32")
            kind = build_hole(document, (line, column + number + 1)).kind
        assert not calls
        fresh = build_hole(Document("file:///a", language, 1, document.text), (line, column + 2)).kind
        assert kind == fresh, text[:at][-30:]
        calls.clear()
        document.change(((line, column + 2), (line, column + 2)), '"', "utf-32")
        build_hole(document, (line, column + 3))
        assert calls


def test_a_type_named_string_is_not_a_string() -> None:
    document = Document("file:///a.ts", "typescript", 1, "let name: string;\n")
    assert build_hole(document, (0, 13)).kind == "rest_of_line"
