"""Text of other files in front of fill-in-the-middle, as a model's marks say (marks_settings.py):

    [REPO project] FILE name, a line end, snippet, snippet... [FILE name...]... [FILE current, a line end]

or, where there is no mark of a file, snippets alone, each under the comment that names its file; or nothing. They keep
their order from prompt to prompt (shelf.py), and each has its own ids, so that a cache of the prompt holds up to the
first one that is another. One that is too long is cut behind a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from midspan.engine.marks_settings import Marks
from midspan.engine.prompts.shelf import Shelf, that_fit
from midspan.engine.prompts.surroundings import ELSEWHERE

# A snippet of another file begins with a comment that says nothing but its name (server/context/sources.py).
HEADING = re.compile(r"(?:#|//|--|;+|%|\"|'|/\*|<!--|\(\*|\{-) (\S*[./\\]\S*)(?: (?:\*/|-->|\*\)|-\}))?\n")
# What stands where a model was taught the names of a repository and of the gap's own file, neither of which is known.
PROJECT, CURRENT = "project", "current"
# No snippet takes more than this part of the tokens that there are for all.
MOST_OF_ALL = 2


class Snippet(NamedTuple):
    """A snippet's ids: of what stands before it where the file before it is another one, and its own."""

    head: list[int]
    text: list[int]


class OtherFiles:
    """Lays snippets out in tokens; remembers the last prompt's."""

    def __init__(self, marks: Marks, ids: Mapping[str, int], encode: Callable[[str], list[int]]) -> None:
        """A tokenizer's marks, their ids, and what turns text into ids without any mark."""
        self._encode, self._reads = encode, marks.reads_others
        self._file = None if marks.file is None else ids[marks.file]
        self._begin, self._end = list[int](), list[int]()
        if marks.repo is not None and self._file is not None:
            self._begin = [ids[marks.repo], *encode(f"{PROJECT}\n")]
            self._end = [self._file, *encode(f"{CURRENT}\n")]
        self._shelf = Shelf()
        self._last: tuple[tuple[str, ...], int] = ((), 0)
        self._known: dict[str, Snippet] = {}
        self._ids: list[int] = []

    def ids(self, context: tuple[str, ...], most: int) -> list[int]:
        """Ids of the last snippets that fit into `most` tokens together, with all marks and names; none if none do."""
        if not self._reads or not most:
            return []
        # Usually the same from key to key.
        if (context, most) != self._last:
            known = self._known if most == self._last[1] else {}
            self._known = {one: known.get(one) or self._snippet(one, most) for one in context}
            self._last, self._ids = (context, most), self._laid_out(context, most)
        return self._ids

    def _laid_out(self, context: tuple[str, ...], most: int) -> list[int]:
        room, known, last = most - len(self._begin) - len(self._end), self._known, list[int]()
        found = [one for one in context if known[one].text]
        ids = list[int]()
        for one in self._shelf.arranged(that_fit(found, room, lambda one: len(known[one].head) + len(known[one].text))):
            head, text = known[one]
            ids += text if head == last else head + text
            last = head
        return [*self._begin, *ids, *self._end] if ids else []

    def _snippet(self, snippet: str, most: int) -> Snippet:
        """The ids of one snippet; without text where not even a line fits."""
        if self._file is None:
            return Snippet([], self._cut(snippet, most // MOST_OF_ALL))
        heading = HEADING.match(snippet)
        name, text = (ELSEWHERE, snippet) if heading is None else (heading[1], snippet[heading.end() :])
        head = [self._file, *self._encode(f"{name}\n")]
        return Snippet(head, self._cut(text, most // MOST_OF_ALL - len(head)))

    def _cut(self, text: str, most: int) -> list[int]:
        """The ids of as many whole lines as fit, with a line end."""
        lines = text.rstrip("\n").split("\n") if text.strip() else []
        while lines:
            kept = "\n".join(lines) + "\n"
            if len(ids := self._encode(kept)) <= most:
                # A comment that names a file says nothing without a line of it.
                return [] if HEADING.fullmatch(kept) else ids
            del lines[min(len(lines) - 1, len(lines) * max(most, 0) // len(ids)) :]
        return []
