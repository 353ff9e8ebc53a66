"""How clients put a suggestion into the text, and what of it a person takes.

A style cuts what is shown into parts, of which the first is taken by a key, and says how the part comes into the text:
in place of the item's range, as VS Code does it, or as an insertion at the cursor. A client's author adds a Style.

The rule of acceptance is the same in all of them. A suggestion that begins as the rest of the line does is worth taking
if that beginning is all of the rest, or at least LEAST characters. Then its first part is taken, if all of the part is
right; what is left is shown again and weighed anew. Nobody takes a text in order to correct it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile

LEAST = 3
# A run of letters, digits and underscores, or of anything else, with the spaces before it.
WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)|\s+")


def whole(shown: str) -> str:
    """All that is shown."""
    return shown


def next_word(shown: str) -> str:
    """The next word of what is shown."""
    found = WORD.match(shown)
    return found[0] if found else shown


def next_line(shown: str) -> str:
    """What is shown up to the end of its first line, or that line end alone."""
    return shown.split("\n", 1)[0] or shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """A client's way: the `part` of what is shown that a key takes, and whether it `replaces` the item's range."""

    part: Callable[[str], str]
    replaces: bool = False

    def taken(self, shown: str, rest: str) -> str:
        """What of the text behind the cursor is taken where `rest` is to be typed; empty for nothing."""
        right = sum(takewhile(bool, (one == other for one, other in zip(shown, rest, strict=False))))
        part = self.part(shown)
        worth = bool(rest) and (right == len(rest) or right >= LEAST)
        return part if worth and len(part) <= right else ""


STYLES = {
    "vscode": Style(part=whole, replaces=True),
    "neovim": Style(part=whole),
    "word": Style(part=next_word),
    "line": Style(part=next_line),
}
