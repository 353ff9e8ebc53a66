"""A simulated person retypes lines of files through the real server process, at a human rhythm in time-lapse.

A line is emptied but for its indent, while the rest of the file stands, and typed key by key. The client asks after
Enter (which opened the line), and after every key and acceptance. Time is told by a clock of the person's own, which no
process waits for: keys fall in a human's rhythm (`Rhythm`), an answer comes as many milliseconds after its request as
it really took. One that comes after the next key is late: it is not seen. What is seen is taken, in part or whole, by
the rule of styles.py in place of the next key, else typed past.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lsprotocol import types

from midspan.server.bench.people import HUMAN, Rhythm
from midspan.server.bench.replay import File, draw, ghost
from midspan.server.client.typist import Typist, identify, typing
from midspan.server.replay.styles import Style
from midspan.server.text.documents import units
from midspan.server.text.languages import BY_EXTENSION, PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who types: how their client takes suggestions, how fast they are, and the seed of the keys' times and lines."""

    style: Style
    rhythm: Rhythm = HUMAN
    seed: int = 0


class Key(NamedTuple):
    """One key, and what stood behind the cursor after it.

    `shown` is empty for nothing. `along` says that the key ran along what was shown before it and left some of it;
    `changed`, that something else is shown then. `taken` is what the next key takes of it.
    """

    shown: str
    id: str
    taken: str
    late: bool
    along: bool
    changed: bool


@dataclass(slots=True, kw_only=True)
class Session:
    """All keys of a file's lines, and when, on the person's clock, the first suggestion was taken."""

    characters: int = 0
    lines: int = 0
    first_taken_s: float | None = None
    keys: list[Key] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a replay came to: a session for each file; milliseconds of each request, and of the ids that were taken."""

    sessions: list[Session]
    response_ms: list[float]
    useful_ms: list[float]


class Typing:
    """A person at one document."""

    def __init__(self, typist: Typist, person: Person, uri: str, chance: random.Random) -> None:
        self._typist, self._person, self._uri, self._chance = typist, person, uri, chance
        self._clock, self._due = 0.0, ""
        self.session = Session()

    async def retype(self, row: int, line: str) -> None:
        """Type a line; the document holds it before and after, but for spaces at its end."""
        body = line.rstrip()
        column = len(body) - len(body.lstrip())
        self.session.lines += 1
        self.session.characters += len(body) - column
        self._typist.replace(self._uri, row, column, len(line), "")
        self._clock += self._person.rhythm.line(self._chance)
        self._due = ""
        while True:
            taken = await self._look(row, body, column)
            if column == len(body):
                return
            if not taken:
                self._typist.replace(self._uri, row, column, column, body[column])
            self._due = self._due[len(taken) or 1 :] if self._due.startswith(taken or body[column]) else ""
            column += len(taken) or 1

    async def _look(self, row: int, body: str, column: int) -> str:
        """Ask after a key, and take what is worth it; the key, and the time until the next one, are noted."""
        item = await self._typist.ask(self._uri, types.Position(row, column))
        gap_s = self._person.rhythm.key(self._chance)
        late = item is not None and self._typist.all_ms[-1] > 1000 * gap_s
        seen = None if late else item
        shown, due = ghost(seen, body, column), self._due
        taken = self._person.style.taken(shown, body[column:])
        id = identify(seen) if seen is not None and shown else ""
        # What is late can't be said to have changed.
        along = bool(due) and not late
        self.session.keys.append(Key(shown, id, taken, late, along, along and shown != due))
        self._clock += gap_s
        self._due = shown
        if seen is not None and shown:
            self._typist.say_shown(seen)
            if taken:
                if self.session.first_taken_s is None:
                    self.session.first_taken_s = self._clock
                await self._take(seen, row, body[:column], taken)
        return taken

    async def _take(self, item: types.InlineCompletionItem, row: int, before: str, taken: str) -> None:
        """Have the client change the text, and tell the server."""
        start = len(before) if item.range is None else item.range.start.character
        there, column = before[start:] + taken, len(before)
        if self._person.style.replaces:
            self._typist.replace(self._uri, row, start, column, there)
        else:
            self._typist.replace(self._uri, row, column, column, taken)
        if there == item.insert_text:
            await self._typist.say_accepted(item)
        else:
            self._typist.say_part(item, units(there, "utf-16"))


async def replay(
    files: Sequence[File], lines: int, person: Person, serve: Sequence[str], options: Mapping[str, object]
) -> Run:
    """Retype so many lines, drawn by the person's seed, of files that need not be anywhere.

    `serve` is the server's command line, its state folder with it; `options` are initializationOptions. Raises
    CommandError if the server says why it cannot load.
    """
    chance, sessions = random.Random(person.seed), list[Session]()
    async with typing(serve, options) as typist:
        for file, rows in draw(files, lines, person.seed):
            uri, text = file.place(Path("/replay")).as_uri(), file.text.split("\n")
            typist.open(uri, file.text, language=BY_EXTENSION.get(Path(file.path).suffix.lower(), PLAIN.name))
            typed = Typing(typist, person, uri, chance)
            for row in rows:
                await typed.retype(row, text[row])
            typist.close(uri)
            sessions.append(typed.session)
    taken = dict.fromkeys(key.id for session in sessions for key in session.keys if key.taken)
    return Run(sessions=sessions, response_ms=typist.all_ms, useful_ms=[typist.responses[id] for id in taken])


def keys_of(run: Run) -> Iterator[Key]:
    """Every key of a run."""
    for session in run.sessions:
        yield from session.keys
