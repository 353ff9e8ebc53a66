"""Documents after any edits in three encodings: the text equals the client's, the tree equals a fresh one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.text.documents import Document, Documents, Encoding, split_lines
from midspan.server.text.line_index import Offsets

ENDS = ["\n", "\r", "\r\n", "\n\r"]
NO_ENDS = ["\x0b", "\x0c", "\x85", "\u2028"]
LETTERS = st.sampled_from(["a", " ", "x = 1", "(", ")", "é", "漢", "😀", chr(0xD800), "#", '"', *ENDS, *NO_ENDS])


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[pytest.MonkeyPatch]:
    """Let every parse end, however busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("midspan.server.text.documents.PATIENCE_S", 60.0)
        yield patch


TEXTS = st.lists(LETTERS, max_size=12).map("".join)
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16", "utf-32")
CODECS = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}


def reference_offset(text: str, line: int, character: int, encoding: Encoding) -> int:
    """The offset of a position in the whole text, computed as the specification words it, with Python's codecs."""
    starts = [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", text))]
    if line >= len(starts):
        return len(text)
    content = re.match(r"[^\r\n]*", text[starts[line] :])
    assert content is not None
    codec, size = CODECS[encoding]
    column = 0
    while column < len(content[0]):
        used = len(content[0][: column + 1].encode(codec, "surrogatepass")) // size
        if used > character:
            break
        column += 1
    return starts[line] + column


POSITIONS = st.tuples(st.integers(0, 8), st.integers(0, 12))


@given(TEXTS, st.sampled_from(ENCODINGS), st.lists(st.tuples(POSITIONS, POSITIONS, TEXTS), max_size=5), st.booleans())
def test_any_edits_give_the_clients_text(
    text: str, encoding: Encoding, edits: list[tuple[tuple[int, int], tuple[int, int], str]], whole: bool
) -> None:
    document = Document("file:///a.py", "python", 1, text)
    for one, two, new in edits:
        begin, end = sorted(reference_offset(text, *position, encoding) for position in (one, two))
        span = (one, two)
        text = text[:begin] + new + text[end:]
        document.change(None if whole else span, text if whole else new, encoding)
        assert document.text == text
        assert document.lines == split_lines(text)
        assert document.parse(60.0)
        assert document.syntax is not None
        fresh = Document("file:///a.py", "python", 1, text).syntax
        assert fresh is not None
        # tree-sitter can repair broken text in several ways, and an edited tree may use another than a fresh one.
        assert fresh.has_error or document.syntax.outline == fresh.outline


@given(TEXTS, TEXTS)
def test_a_whole_text_becomes_the_smallest_edit_that_keeps_line_ends_whole(old: str, new: str) -> None:
    document = Document("file:///a.txt", "plain", 1, old)
    (start, end), text = document.edit_of(None, new, "utf-16")
    for line, column in (start, end):
        assert column <= len(document.content(line))
    begin, stop = (len("".join(document.lines[:line])) + column for line, column in (start, end))
    assert old[:begin] + text + old[stop:] == new
    # Both ends differ between the old and the new text, except for one half of a line end.
    replaced = old[begin:stop]
    if replaced and text:
        assert replaced[0] != text[0] or replaced[0] == "\r"
        assert replaced[-1] != text[-1] or replaced[-1] == "\n"


@pytest.mark.parametrize(
    ("old", "new", "edit"),
    [
        ("a\r\nb", "a!\r\nb", (((0, 1), (0, 1)), "!")),
        ("a\rb", "a\r\nb", (((0, 1), (1, 0)), "\r\n")),
        ("a\nb", "a\r\nb", (((0, 1), (1, 0)), "\r\n")),
        ("a\r\nb", "a\rb", (((0, 1), (1, 0)), "\r")),
        ("aa", "aaa", (((0, 2), (0, 2)), "a")),
        ("é😀=\n", "é😀x=\n", (((0, 2), (0, 2)), "x")),
        ("a\n", "a\n", (((1, 0), (1, 0)), "")),
        ("", "a\n", (((0, 0), (0, 0)), "a\n")),
    ],
)
def test_the_edit_of_a_whole_text(old: str, new: str, edit: object) -> None:
    assert Document("file:///a.txt", "plain", 1, old).edit_of(None, new, "utf-16") == edit


BODY = [f"def f{n}(a):\n    if a:\n        return g(a, {n})\n" for n in range(4)]


EDITS = st.tuples(st.integers(0, 3), st.integers(0, 40), st.sampled_from(["(", ")", "x", "\n", "#", "  "]))


@given(st.lists(EDITS, max_size=6))
def test_an_edited_tree_equals_a_fresh_one(edits: list[tuple[int, int, str]]) -> None:
    document = Document("file:///a.py", "python", 1, "".join(BODY))
    for function, character, new in edits:
        at = (3 * function + character % 3, character)
        document.change((at, at), new, "utf-16")
    # Undo all edits with one: the text parses again, so the edited tree must have no error either.
    document.change(((0, 0), (99, 0)), "".join(BODY), "utf-16")
    assert document.syntax is not None
    fresh = Document("file:///a.py", "python", 1, "".join(BODY)).syntax
    assert fresh is not None
    assert document.syntax.outline == fresh.outline


LARGE = "".join(BODY) * 300


def fresh_outline(text: str) -> str:
    document = Document("file:///a.py", "python", 1, text)
    assert document.parse(60.0)
    assert document.syntax is not None
    return document.syntax.outline


def grown_without_patience(monkeypatch: pytest.MonkeyPatch) -> tuple[Document, str]:
    """A document that has doubled its size while parsing got no time, and its outline before."""
    document, before = Document("file:///a.py", "python", 1, LARGE), fresh_outline(LARGE)
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", -1.0)
    document.change(((0, 0), (0, 0)), LARGE, "utf-16")
    return document, before


def test_a_parse_that_takes_too_long_is_continued_later(monkeypatch: pytest.MonkeyPatch) -> None:
    document, before = grown_without_patience(monkeypatch)
    assert document.syntax is not None
    # The old tree stays in use.
    assert document.syntax.outline == before
    slices = 1
    while not document.parse(0.0):
        slices += 1
    # Each slice went on where the last had stopped: otherwise the loop would not end.
    assert slices > 1
    assert document.syntax.outline == fresh_outline(LARGE + LARGE) != before


@pytest.mark.parametrize("patience_s", [0.0, -1.0])
def test_a_first_parse_that_takes_too_long_is_continued_later(
    monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", patience_s)
    document = Document("file:///a.py", "python", 1, LARGE)
    # There is no tree yet, and keystrokes do not go on with the parse.
    assert document.syntax is None
    document.change(((0, 0), (0, 0)), "x = 1\n", "utf-16")
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", 60.0)
    assert document.syntax is None
    slices = 1
    while not document.parse(0.0):
        assert document.syntax is None
        slices += 1
    assert slices > 1
    assert document.syntax is not None
    assert document.syntax.outline == fresh_outline("x = 1\n" + LARGE)


def test_after_a_slow_parse_keystrokes_do_not_parse_until_one_was_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    document, before = grown_without_patience(monkeypatch)
    assert document.syntax is not None
    assert document.syntax.outline == before
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", 60.0)
    document.change(((0, 0), (0, 0)), "x = 1\n", "utf-16")
    # Keystrokes do not wait for the parse now, and the old tree stays in use.
    assert document.syntax.outline == before
    assert document.parse(60.0)
    after = document.syntax.outline
    assert after == fresh_outline("x = 1\n" + LARGE + LARGE)
    # That parse was quick, so the next edit is parsed at once again, and so is a whole new text.
    document.change(((0, 0), (0, 0)), "y = 2\n", "utf-16")
    assert document.syntax.outline != after
    document.change(None, "z", "utf-16")
    assert document.syntax.outline == fresh_outline("z")


def test_an_edit_during_a_parse_starts_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document("file:///a.py", "python", 1, LARGE)
    assert document.syntax is not None
    before = document.syntax.outline
    monkeypatch.setattr("midspan.server.text.documents.PATIENCE_S", -1.0)
    document.change(((1, 0), (1, 0)), "((((", "utf-16")
    assert not document.parse(0.0)
    document.change(((1, 0), (1, 4)), "", "utf-16")
    assert document.text == LARGE
    assert document.parse(60.0)
    assert document.syntax.outline == before


@given(st.lists(st.integers(0, 9), max_size=9), st.lists(st.tuples(*[st.integers(0, 9)] * 3), max_size=6))
def test_offsets_are_sums_of_line_sizes_after_any_edits(sizes: list[int], edits: list[tuple[int, ...]]) -> None:
    offsets = Offsets(sizes)
    for one, two, count in edits:
        first, end = sorted((min(one, len(sizes)), min(two, len(sizes))))
        offsets.before(one % (len(sizes) + 1))
        new = list(range(1, count + 1))
        offsets.replace(first, end, new)
        sizes[first:end] = new
        assert [offsets[line] for line in range(len(offsets))] == sizes
        for line in (two % (len(sizes) + 1), len(sizes), one % (len(sizes) + 1)):
            assert offsets.before(line) == sum(sizes[:line])
    for offset in range(sum(sizes)):
        line = offsets.line_at(offset)
        assert sum(sizes[:line]) <= offset < sum(sizes[: line + 1])
    assert offsets.line_at(sum(sizes)) == len(sizes)


@given(TEXTS, POSITIONS, st.sampled_from(ENCODINGS))
def test_places_equal_the_references_and_convert_back(text: str, position: tuple[int, int], encoding: Encoding) -> None:
    document = Document("file:///a.txt", "plain", 1, text)
    line, column = document.place(*position, encoding)
    offset = sum(map(len, document.lines[:line])) + column
    assert offset == reference_offset(text, *position, encoding)
    assert document.place(line, document.character((line, column), encoding), encoding) == (line, column)


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_only_lsp_line_ends_break_lines(separator: str) -> None:
    assert split_lines(f"a{separator}b\nc") == [f"a{separator}b\n", "c"]


@pytest.mark.parametrize(("encoding", "character"), [("utf-8", 8), ("utf-16", 5), ("utf-32", 4)])
def test_one_place_in_three_encodings(encoding: Encoding, character: int) -> None:
    document = Document("file:///a.py", "python", 1, "é😀=x\n")
    assert document.place(0, character, encoding) == (0, 4)
    assert document.character((0, 3), encoding) == character - 1


def test_a_position_inside_a_character_rounds_down() -> None:
    document = Document("file:///a.py", "python", 1, "😀b")
    assert [document.place(0, n, "utf-16")[1] for n in range(4)] == [0, 0, 1, 2]
    assert [document.place(0, n, "utf-8")[1] for n in range(6)] == [0, 0, 0, 0, 1, 2]


def test_line_ends_follow_the_majority() -> None:
    assert Document("u", "python", 1, "a\r\nb\r\nc\n").line_end() == "\r\n"
    assert Document("u", "python", 1, "a").line_end() == "\n"


def test_documents_open_change_and_close() -> None:
    documents = Documents()
    documents.open("u", "python", 1, "x = 1\n")
    documents.change("u", 2, [(((0, 4), (0, 5)), "22"), (((0, 0), (0, 1)), "yy")], "utf-16")
    document = documents.get("u")
    assert document is not None
    assert (document.version, document.text) == (2, "yy = 22\n")
    documents.close("u")
    assert documents.get("u") is None
    with pytest.raises(KeyError):
        documents.change("u", 3, [], "utf-8")
