"""People who type at once, each in a document of their own, in a human's rhythm.

A person goes down a file from some line of it, empties line after line but for the indent, and types it again, as
`bench replay` does. After Enter, and after each key that does not run along what is shown, an engine is asked as the
server asks it (requests.py): the newest request of a document ends the one before, and a key may be waited for. A
suggestion that is exactly the rest of the line is accepted in place of the next key. Nothing of other files goes along,
and gaps are those of a text without a syntax tree: ends of lines and whole lines.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from midspan.engine.api import Budget, Engine, Hole, RemoteError
from midspan.server.bench.load_requests import Tally
from midspan.server.bench.replay import accepts_exact
from midspan.server.completion import WORTH_A_KEY
from midspan.server.postprocess.trim import trim
from midspan.server.requests import Request, Requests
from midspan.server.settings import DEFAULTS
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole
from midspan.server.text.languages import PLAIN

# An engine ends what is stopped within a step.
STOPPED_S = 30.0


class Text(NamedTuple):
    """What is typed: a file's text, with LF line ends, and its language."""

    language: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """Seconds between keys and before a line, log-normal: medians, and spreads of the logarithm.

    As they are, with lines of some 35 characters: about 200 keys a minute, as many as `bench soak` counts.
    """

    key_s: float = 0.2
    key_spread: float = 0.5
    line_s: float = 2.0
    line_spread: float = 0.7

    def key(self, chance: random.Random) -> float:
        """Seconds to the next key."""
        return self.key_s * chance.lognormvariate(0.0, self.key_spread)

    def line(self, chance: random.Random) -> float:
        """Seconds until the next line is begun."""
        return self.line_s * chance.lognormvariate(0.0, self.line_spread)


HUMAN = Rhythm()


class Person:
    """One person; all of them share the tally. `number` seeds where they type and when."""

    def __init__(self, number: int, text: Text, engine: Engine, tally: Tally, rhythm: Rhythm) -> None:
        self._chance, self._rhythm, self._language = random.Random(number), rhythm, text.language
        self._document = Document(f"load:{number}", PLAIN.name, 0, text.text)
        self._engine, self._tally, self._requests = engine, tally, Requests()
        self._shown, self._shown_ms, self._newest, self._due = "", 0.0, 0, 0.0

    async def type_on(self) -> None:
        """Type without end."""
        rows = [row for row in range(len(self._document.lines)) if self._document.content(row).strip()]
        first = self._chance.randrange(len(rows))
        # They did not all sit down at once.
        self._due = asyncio.get_running_loop().time() + self._chance.uniform(0.0, self._rhythm.line_s)
        async with asyncio.TaskGroup() as self._asking:
            try:
                for row in itertools.islice(itertools.cycle(rows), first, None):
                    await self._pause(self._rhythm.line(self._chance))
                    await self._type_line(row)
            finally:
                self._tally.end()
                self._requests.supersede_all()

    async def _pause(self, seconds: float) -> None:
        """Wait for the next key; one that comes late is not made up for."""
        clock = asyncio.get_running_loop().time
        self._due += seconds
        await asyncio.sleep(self._due - clock())
        late_s = max(0.0, clock() - self._due)
        self._tally.late_ms.append(1000 * late_s)
        self._due += late_s

    async def _type_line(self, row: int) -> None:
        whole = self._document.content(row)
        line = whole.rstrip()
        column = len(line) - len(line.lstrip())
        self._document.edit(((row, column), (row, len(whole))), "")
        self._tally.lines += 1
        self._tally.keys += 1
        self._ask(row, column)
        while rest := line[column:]:
            await self._pause(self._rhythm.key(self._chance))
            typed = rest[0]
            if accepts_exact(self._shown, rest):
                typed = rest
                self._tally.useful_ms.append(self._shown_ms)
            self._document.edit(((row, column), (row, column)), typed)
            self._tally.keys += 1
            column += len(typed)
            self._shown = self._shown[len(typed) :] if self._shown.startswith(typed) else ""
            if not self._shown:
                self._ask(row, column)

    def _ask(self, row: int, column: int) -> None:
        """Ask for what may stand there; the answer is shown when it comes, unless it is out of date by then."""
        self._newest += 1
        hole = replace(build_hole(self._document, (row, column)), language=self._language)
        self._asking.create_task(self._answer(hole, self._newest, time.perf_counter()))

    async def _answer(self, hole: Hole, number: int, began: float) -> None:
        least = self._engine.about.show_threshold
        budget = Budget(deadline_s=DEFAULTS.deadline_ms / 1000, min_confidence=least)
        wait_s = DEFAULTS.debounce_ms / 1000
        request = Request(uri=self._document.uri, hole=hole, budget=budget, debounce_s=wait_s)
        try:
            fill = await self._requests.ask(self._engine, request)
        except (RemoteError, RuntimeError):
            # A server's refusal, or a crash of the engine here, which is noted; the next key asks again.
            return
        if fill is None or fill.confidence < least or number != self._newest:
            return
        text = trim(hole, fill.text) or ""
        if len(text.strip()) >= WORTH_A_KEY:
            self._shown, self._shown_ms = text, 1000 * (time.perf_counter() - began)
            self._tally.shown += 1


async def type_for(seconds: float, people: Iterable[Coroutine[Any, Any, None]], tally: Tally) -> None:
    """Have all of them do what they do for so long, and stop what is under way then."""
    tally.began = time.perf_counter()
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as typing:
            for person in people:
                typing.create_task(person)
    except TimeoutError:
        # That is the end of the run.
        return
    finally:
        await _stopped(tally)


async def _stopped(tally: Tally) -> None:
    """Wait until what was under way has ended, as its end is told to this loop."""
    waiting = [asyncio.wrap_future(future) for future in tuple(tally.under_way)]
    if waiting:
        over, _ = await asyncio.wait(waiting, timeout=STOPPED_S)
        for one in over:
            # What went wrong is counted already.
            one.exception()
