"""Context: its budget, its stability while one line is typed, and no context for an engine that reads none."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.context.context import SOURCES, Context, Used, collect, described, in_order
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap
from midspan.server.text.documents import Document, Documents
from midspan.server.text.hole import build_hole
from midspan.server.workspace.index import Index
from tests.server.gaps import UNHURRIED_S, read_workspace

HEAD = (
    "import json\nfrom store import Store\n\n\ndef helper(count):\n    return count\n\n\n"
    "class Shop:\n    def sell(self):\n"
)
STORE = "class Store:\n    def load(self, path):\n        return path\n"
FILLER = "".join(f"        value_{number} = {number} + {number}\n" for number in range(400))
LINE = HEAD.count("\n") + 300
URI = "untitled:shop"


@pytest.fixture(autouse=True, scope="module")
def unhurried() -> Iterator[None]:
    """Remove the time limit, so that no source is cut short on a slow machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("midspan.server.context.context.collect", partial(collect, patience_s=UNHURRIED_S))
        yield


def workspace() -> tuple[Documents, Document, Index]:
    """A long document whose head lies outside the window at line LINE, and another one that it imports."""
    documents = Documents()
    document = documents.open(URI, "python", 1, HEAD + FILLER)
    documents.open("untitled:store", "python", 1, STORE)
    return documents, document, read_workspace(Path("/nowhere"), documents)


def context_of(documents: Documents, index: Index, tokens: int = 500) -> Context:
    context = Context(documents, tokens)
    context.background.index = index
    return context


def seen(context: Context, document: Document, line: int = LINE, column: int = 8) -> tuple[str, ...]:
    return context.at(document, (line, column), build_hole(document, (line, column)))


def write(context: Context, documents: Documents, span: tuple[tuple[int, int], tuple[int, int]], text: str) -> None:
    context.changed(URI, [(span, text)])
    documents.change(URI, 2, [(span, text)], "utf-32")


KEYS = st.lists(st.one_of(st.sampled_from(["helper(", "Store", "json.", "x"]), st.integers(1, 4)), max_size=12)


@given(KEYS)
def test_context_stays_the_same_while_only_one_line_changes(keys: list[str | int]) -> None:
    documents, document, index = workspace()
    context = context_of(documents, index)
    begun = seen(context, document)
    assert begun[-2:] == ("class Shop:", "    def sell(self):")
    column = 8
    for key in keys:
        if isinstance(key, str):
            write(context, documents, ((LINE, column), (LINE, column)), key)
            column += len(key)
        else:
            begin = max(8, column - key)
            write(context, documents, ((LINE, begin), (LINE, column)), "")
            column = begin
        assert seen(context, document, column=column) is begun


def test_names_of_a_line_get_context_once_the_gap_has_left_the_line() -> None:
    documents, document, index = workspace()
    context = context_of(documents, index)
    write(context, documents, ((LINE, 0), (LINE, 0)), "        helper(Store())\n")
    text = "\n".join(seen(context, document, LINE + 1))
    assert "def helper(count):" in text
    assert "class Store:\n    def load(self, path):" in text


@pytest.mark.parametrize(
    "span",
    [((LINE, 8), (LINE + 1, 0)), ((LINE - 1, 0), (LINE - 1, 0)), ((3, 0), (3, 0)), ((LINE + 2, 0), (LINE + 2, 5))],
)
def test_an_edit_of_another_line_renews_the_context(span: tuple[tuple[int, int], tuple[int, int]]) -> None:
    documents, document, index = workspace()
    context = context_of(documents, index)
    begun = seen(context, document)
    write(context, documents, span, "helper(1)")
    assert seen(context, document) is not begun


def test_opening_closing_or_changing_any_document_renews_the_context() -> None:
    documents, document, index = workspace()
    context = context_of(documents, index)
    happenings: list[Callable[[], None]] = [
        lambda: context.changed("untitled:store", [(((0, 0), (0, 0)), "x")]),
        lambda: context.closed("untitled:store"),
        lambda: context.opened("untitled:store"),
        lambda: context.changed(URI, [(None, "x")]),
    ]
    for happens in happenings:
        begun = seen(context, document)
        assert seen(context, document) is begun
        happens()
        assert seen(context, document) is not begun


def test_no_context_is_collected_for_an_engine_that_reads_none(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, document, index = workspace()
    context = context_of(documents, index, tokens=0)

    def fail(gap: Gap, chars: int) -> list[Used]:
        raise AssertionError("collected for nobody")

    monkeypatch.setattr("midspan.server.context.context.collect", fail)
    assert seen(context, document) == ()
    write(context, documents, ((LINE, 8), (LINE, 8)), "x")
    assert list(context.edits.newest()) == []
    assert not context.background.running


def gap_at(documents: Documents, document: Document, index: Index, line: int = LINE) -> Gap:
    hole = build_hole(document, (line, 8))
    return Gap(document=document, place=(line, 8), hole=hole, index=index, documents=documents, edits=Edits(), roots=())


@pytest.mark.parametrize("chars", [0, 20, 60, 100, 200, 400, 1000])
def test_the_budget_holds_and_is_used(chars: int) -> None:
    documents, document, index = workspace()
    documents.change(URI, 2, [(((LINE, 8), (LINE, 8)), "helper(Store(), json)")], "utf-32")
    used = collect(gap_at(documents, document, index), chars, UNHURRIED_S)
    shown = in_order(used)
    assert sum(map(len, shown)) <= chars
    assert bool(shown) == (chars >= 60)
    if chars == 1000:
        assert [one.source for one in used if one.chars] == ["headers", "imports", "this file", "open files"]
        assert shown[-1] == "    def sell(self):"


def endless(gap: Gap) -> Iterator[tuple[tuple[str, int], str]]:
    return ((("", number), f"snippet {number}") for number in itertools.count())


def test_a_source_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, document, index = workspace()
    monkeypatch.setattr("midspan.server.context.context.SOURCES", (("endless", endless, 1.0),))
    [used] = collect(gap_at(documents, document, index), 1000, patience_s=0.01)
    assert 10 <= used.ms < 1000
    assert used.snippets


def test_the_log_has_the_context_sizes_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    documents, document, index = workspace()
    with caplog.at_level(logging.DEBUG, "midspan.server.context.context"):
        seen(context_of(documents, index), document)
    assert "headers 30 characters in " in caplog.text
    assert "workspace 0 characters in " in caplog.text
    assert not any(word in caplog.text for word in ("Shop", "sell", "json", "Store", "helper"))


def test_what_changes_most_often_is_read_last() -> None:
    used = [Used(name, (name,), 0.0) for name, _, _ in SOURCES]
    assert in_order(used) == (
        *("workspace", "open files", "this file", "imports", "headers"),
        *("recent edits", "diagnostics"),
    )


def test_the_log_line_of_a_source() -> None:
    assert described([Used("imports", ("ab", "c"), 0.5)]) == "imports 3 characters in 0.50 ms"


def test_lone_surrogates_in_context_are_replaced() -> None:
    documents = Documents()
    text = HEAD.replace("import json", "import json # " + chr(0xD800)) + FILLER
    document = documents.open(URI, "python", 1, text)
    index = read_workspace(Path("/nowhere"), documents)
    shown = "\n".join(seen(context_of(documents, index), document))
    assert shown.encode()
    assert "import json" in shown
