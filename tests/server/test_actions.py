"""Code actions as pictures: the places where each is offered, its replaced range, and the hole for the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.engine.api import Candidate, Fill, Latency
from midspan.server.actions import ACTIONS, BY_NAME, SELECTION_CHARS, Change, choices, is_too_long
from midspan.server.text.documents import Document
from midspan.server.text.line_index import Place
from tests.server.pictures import FIXTURES, cut, named, place

PICTURES = sorted((FIXTURES / "actions").glob("*.txt"))


def expected(sections: dict[str, str]) -> dict[str, str]:
    """The picture of the document after each action that is offered."""
    return {action: picture for names, picture in sections.items() for action in names.split()}


def picture_of(document: Document, change: Change) -> str:
    """A picture of the document after the change."""

    def offset(at: Place) -> int:
        return sum(map(len, document.lines[: at[0]])) + at[1]

    before, behind = document.text[: offset(change.start)], document.text[offset(change.end) :]
    return f"{before}├{change.before}fill{change.after}┤{behind}"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_offered_actions_and_their_replacements(path: Path) -> None:
    sections = named(path)
    before, between, after = cut(sections[""])
    document = Document("file:///a", sections.get("language", "python").strip(), 1, before + between + after)
    wanted = expected(sections)
    for action in ACTIONS:
        change = action.plan(document, place(before), place(before + between))
        if action.name == "quickfix" and action.name not in wanted:
            continue
        assert (change is not None) == (action.name in wanted), action.name
        if change is None:
            continue
        assert picture_of(document, change) == wanted[action.name], action.name
        # The model is given the text as it will be, without the comment that describes the task.
        asked = sections.get("asked", wanted[action.name]).replace("├", "").replace("┤", "")
        assert change.hole.prefix + "fill" + change.hole.suffix == asked
        if action.name in ("finish", "placeholder", "docstring", "quickfix") and "kind" in sections:
            assert change.hole.kind == sections["kind"].strip()


def test_rewrites_have_a_draft_and_a_strength() -> None:
    document = Document("file:///a.py", "python", 1, "if a:\r\n    b = 1\r\n    c = 2\r\n")
    changes = {action.name: action.plan(document, (1, 0), (3, 0)) for action in ACTIONS}
    strengths = {}
    for name in ("refill", "lightly", "half", "fully"):
        change = changes[name]
        assert change is not None
        assert change.hole.draft == "b = 1\n    c = 2"
        strengths[name] = change.hole.strength
        # Fills with a strength are not trimmed: the filters could remove a frozen token.
        assert change.trims == (change.hole.strength is None)
    assert strengths == {"refill": None, "lightly": 0.25, "half": 0.5, "fully": 1.0}


@pytest.mark.parametrize(
    ("action", "texts", "wanted"),
    [
        ("half", ["c", "a + b", "d", "c"], ["c", "d"]),
        ("half", ["\ufffd + b", "d"], ["d"]),
        ("half", ["  c"], ["  c"]),
        ("refill", ["c", "  ", "c)", "a + b)"], ["c"]),
        ("fully", ["c,, d", "c d", "(c", "c, d"], ["c, d"]),
        ("fully", ["c,, d", "(c"], []),
    ],
)
def test_texts_that_change_nothing_are_no_choices(action: str, texts: list[str], wanted: list[str]) -> None:
    document = Document("file:///a.py", "python", 1, "x = f(a + b)\n")
    change = BY_NAME[action].plan(document, (0, 6), (0, 11))
    assert change is not None
    assert list(choices(change, fill_of(texts))) == wanted


def test_a_text_may_leave_an_error_in_a_document_that_does_not_parse() -> None:
    change = BY_NAME["fully"].plan(Document("file:///a.py", "python", 1, "x = f(a + b\n"), (0, 6), (0, 11))
    assert change is not None
    assert list(choices(change, fill_of(["(c", "d e"]))) == ["(c", "d e"]
    assert list(choices(change, fill_of(["(c", "d)"]))) == ["d)"]


@pytest.mark.parametrize("there", ["# TODO: add them", "pass", "..."])
def test_a_statement_without_effect_does_not_replace_a_placeholder(there: str) -> None:
    change = BY_NAME["placeholder"].plan(
        Document("file:///a.py", "python", 1, f"def f(a, b):\n    {there}\n"), (1, 4), (1, 4)
    )
    assert change is not None
    nothing = ["# add", "pass", "...", "return", "return None", "raise NotImplementedError", "# a\n    pass"]
    assert list(choices(change, fill_of([*nothing, "return a + b"]))) == ["return a + b"]


def fill_of(texts: list[str]) -> Fill:
    candidates = tuple(Candidate(text=text, confidence=0.5) for text in texts)
    latency = Latency(total=1.0, encode=0.0, denoise=1.0, rank=0.0)
    return Fill(text="", confidence=0.5, candidates=candidates, steps=1, stopped="settled", latency=latency)


def test_half_of_a_surrogate_pair_reaches_no_prompt() -> None:
    document = Document("file:///a.py", "python", 1, "x = '\ud83d'\n# TODO \ud83d\n")
    for at in (((0, 0), (0, 7)), ((1, 0), (1, 0))):
        for action in ACTIONS:
            change = action.plan(document, *at)
            if change is not None:
                (change.hole.prefix + change.hole.draft + change.hole.suffix).encode()


@pytest.mark.parametrize("more", [0, 1])
def test_a_selection_of_too_many_characters_is_not_rewritten(more: int) -> None:
    text = "x = 1\n" * (SELECTION_CHARS // 6)
    text += "y" * (SELECTION_CHARS - len(text) + more)
    document = Document("file:///a.py", "python", 1, text)
    end = len(document.lines) - 1, len(document.lines[-1])
    assert is_too_long(document, (0, 0), end) == bool(more)
    assert (ACTIONS[0].plan(document, (0, 0), end) is None) == bool(more)


def test_every_action_can_be_planned_at_every_place_of_a_file() -> None:
    text = (FIXTURES / "demo" / "inventory.py").read_text(encoding="utf-8")
    for language in ("python", "rust", "html", "markdown", "yaml", "plaintext"):
        document = Document("file:///a", language, 1, text)
        for line in range(len(document.lines)):
            for at in ((line, 0), (line, len(document.content(line)))):
                for action in ACTIONS:
                    change = action.plan(document, at, at)
                    assert change is None or change.start <= change.end < (len(document.lines), 0)
