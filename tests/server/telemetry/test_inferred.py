"""Inferred acceptance against what a person has done: scripts by the thousand, in each editor's style of edits."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import pytest

from midspan.server.text.documents import unchanged
from tests.server.telemetry.desk import Desk

RUNS = 2000
AGREEMENT = 0.99
NAMES = ("total", "values", "index", "node", "i", "result", "parent_id", "key", "limit", "f")
SHAPES = (
    "{a} = {b}({c})",
    "{a}.append({b} + {c})",
    "for {a} in {b}:\n        {c}({a})",
    "if {a} is None:\n        return {b}\n    {c} = {a}",
    "return {a}[{b}] or {c}",
    "({a}, {b})",
    "{a}, {b} = {c}",
    "[{a} for {a} in {b} if {c}]",
)
WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)")
Script = Callable[["Editor", str, random.Random], bool]


class Editor:
    """A desk whose edits are sent in an editor's style. Each `key` and each `take` is what a person does."""

    def __init__(self, style: str, picture: str, text: str) -> None:
        self.style = style
        self.at = Desk(picture)
        self.at.offer(text)

    def send(self, text: str, cursor: int, keys: int = 1) -> None:
        """The document becomes this text, with the cursor at an offset."""
        old = self.at.document.text
        head, tail = unchanged(old, text)
        if self.style == "VS Code":
            # Its edits begin at the cursor or at what is selected, wherever the texts begin to differ.
            head = min(head, len("".join(self.at.document.lines[: self.at.cursor[0]])) + self.at.cursor[1])
            tail = min(tail, min(len(old), len(text)) - head)
        if self.style == "whole texts":
            self.at.change((None, text), keys=keys)
        else:
            span = self.place(old, head), self.place(old, len(old) - tail)
            self.at.change((span, text[head : len(text) - tail]), keys=keys)
        self.at.cursor = self.place(text, cursor)
        self.at.clock.pass_by(0.3)

    @staticmethod
    def place(text: str, offset: int) -> tuple[int, int]:
        before = text[:offset]
        return before.count("\n"), offset - before.rfind("\n") - 1

    @property
    def offset(self) -> int:
        return len("".join(self.at.document.lines[: self.at.cursor[0]])) + self.at.cursor[1]

    def put(self, text: str, keys: int = 1) -> None:
        """Insert at the cursor in one change."""
        whole, here = self.at.document.text, self.offset
        self.send(whole[:here] + text + whole[here:], here + len(text), keys)

    def type(self, text: str) -> None:
        """Type keys; where the editor waits before it tells, some quick ones come together."""
        if self.style == "Neovim":
            while text:
                self.put(text[:2], len(text[:2]))
                text = text[2:]
        for key in text:
            self.put(key)


def whole(editor: Editor, text: str, chance: random.Random) -> bool:
    editor.put(text)
    return True


def by_words(editor: Editor, text: str, chance: random.Random) -> bool:
    for word in WORD.findall(text):
        editor.put(word)
    return True


def by_lines(editor: Editor, text: str, chance: random.Random) -> bool:
    for line in re.findall(r"\n?[^\n]*", text)[:-1]:
        editor.put(line)
    return True


def along_then_taken(editor: Editor, text: str, chance: random.Random) -> bool:
    typed = chance.randrange(1, len(text) - 1)
    editor.type(text[:typed])
    editor.put(text[typed:])
    return True


def along_to_its_end(editor: Editor, text: str, chance: random.Random) -> bool:
    editor.type(text)
    return False


def some_words(editor: Editor, text: str, chance: random.Random) -> bool:
    words = WORD.findall(text)
    for word in words[: chance.randrange(1, max(2, len(words) // 2))]:
        editor.put(word)
    editor.type("zz")
    return False


def closed_brackets(editor: Editor, text: str, chance: random.Random) -> bool:
    """Typed up to a bracket that the editor closes; the rest is taken between the pair, if it ends with the other."""
    if not text.endswith(")") or "(" not in text:
        return whole(editor, text, chance)
    typed = text.index("(")
    editor.type(text[:typed])
    here, old = editor.offset, editor.at.document.text
    editor.send(f"{old[:here]}(){old[here:]}", here + 1)
    editor.put(text[typed + 1 : -1])
    return True


def taken_and_undone(editor: Editor, text: str, chance: random.Random) -> bool:
    old, here = editor.at.document.text, editor.offset
    editor.put(text)
    editor.send(old, here)
    return True


def at_two_cursors(editor: Editor, text: str, chance: random.Random) -> bool:
    at = editor.at
    last = len(at.document.lines) - 1
    below = (last, len(at.document.lines[last]))
    if editor.style == "whole texts":
        # All that lies between the cursors is one change then, which tells nothing.
        return whole(editor, text, chance)
    at.change(((below, below), text), ((at.cursor, at.cursor), text))
    return True


def formatted_on_save(editor: Editor, text: str, chance: random.Random) -> bool:
    editor.put(text)
    editor.send(editor.at.document.text.replace("x  =", "x ="), 0)
    return True


def something_else(editor: Editor, text: str, chance: random.Random) -> bool:
    editor.type(chance.choice(("q = 7", "# no", text[:2] + "q")))
    return False


def left_alone(editor: Editor, text: str, chance: random.Random) -> bool:
    editor.send(editor.at.document.text + "\nmore = 1", 0)
    return False


SCRIPTS: tuple[Script, ...] = (
    whole, by_words, by_lines, along_then_taken, along_to_its_end, some_words, closed_brackets, taken_and_undone,
    at_two_cursors, formatted_on_save, something_else, left_alone,
)  # fmt: skip


@pytest.mark.parametrize("style", ["VS Code", "Neovim", "Emacs", "whole texts"])
def test_what_the_edits_tell_is_what_was_done(style: str) -> None:
    wrong = Counter[str]()
    for run in range(RUNS):
        chance = random.Random(run)
        text = chance.choice(SHAPES).format(**{name: chance.choice(NAMES) for name in "abc"})
        picture = "def f():\n    x  = 1\n    " + chance.choice(("‸\n", "‸\n    return 1\n", "y = ‸\n"))
        script = SCRIPTS[run % len(SCRIPTS)]
        editor = Editor(style, picture, text)
        accepted = script(editor, text, chance)
        wrong[script.__name__] += (("taken", "1") in editor.at.told.events) != accepted
    assert wrong.total() <= (1 - AGREEMENT) * RUNS, wrong
