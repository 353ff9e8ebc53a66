"""A tree that no keystroke had the time for is finished while nobody types."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midspan.server.text.documents import Document, Documents
from midspan.server.text.reparse import Reparse

WAIT_S = 30


class Slow(Document):
    """A document whose tree takes three slices after every edit."""

    def __init__(self, uri: str, ended: list[str] | None = None) -> None:
        super().__init__(uri, "python", 1, "x = 1\n")
        self.slices, self.ended = 0, [] if ended is None else ended
        self.done = asyncio.Event()

    def parse(self, patience_s: float) -> bool:
        """See Document."""
        if not hasattr(self, "done"):
            return super().parse(patience_s)
        self.slices += 1
        if self.slices >= 3:
            self.ended.append(self.uri)
            self.done.set()
        return self.slices >= 3


class Opened(Documents):
    """Documents of the test's own making."""

    def __init__(self, *documents: Document) -> None:
        super().__init__()
        self._open = {document.uri: document for document in documents}


def started(*documents: Document, busy: Callable[[], bool] = lambda: False) -> Reparse:
    """Of a server that runs."""
    idle = Reparse(Opened(*documents), busy)
    idle.start()
    return idle


async def test_slices_follow_each_other_until_the_tree_is_done() -> None:
    slow = Slow("file:///a.py")
    idle = started(slow)
    idle.edited(slow.uri)
    assert slow.slices == 0
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    assert slow.slices == 3


async def test_a_newer_edit_goes_first_and_none_is_left() -> None:
    ended: list[str] = []
    old, new, last = (Slow(f"file:///{name}.py", ended) for name in ("old", "new", "last"))
    idle = started(old, new, last)
    for document in (old, new, last, new):
        idle.edited(document.uri)
    await asyncio.wait_for(old.done.wait(), WAIT_S)
    assert ended == [new.uri, last.uri, old.uri]
    assert (old.slices, new.slices, last.slices) == (3, 3, 3)


async def test_behind_an_answer_the_next_key_goes_first() -> None:
    """An answer is out when the server is busy no more; a key that follows at once finds the loop free."""
    slow, seen = Slow("file:///a.py"), list[int]()

    def busy() -> bool:
        seen.append(slow.slices)
        return len(seen) == 1

    started(slow, busy=busy).edited(slow.uri)
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    assert seen[:3] == [0, 0, 0]


async def test_stopping_leaves_all_as_it_is() -> None:
    old, last, new = (Slow(f"file:///{name}.py") for name in ("old", "last", "new"))
    idle = started(old, last)
    idle.edited(old.uri)
    idle.edited(last.uri)
    idle.stop()
    started(new).edited(new.uri)
    # Begun later, so it would be the last to end.
    await asyncio.wait_for(new.done.wait(), WAIT_S)
    assert (old.slices, last.slices) == (0, 0)


async def test_a_document_that_was_closed_meanwhile_is_let_go() -> None:
    gone, there = Slow("file:///gone.py"), Slow("file:///there.py")
    idle, other = started(), started(there)
    idle.edited(gone.uri)
    other.edited(there.uri)
    other.edited(gone.uri)
    await asyncio.wait_for(there.done.wait(), WAIT_S)
    assert gone.slices == 0


async def test_nothing_is_parsed_while_an_answer_is_waited_for() -> None:
    slow, asked = Slow("file:///a.py"), list[int]()

    def busy() -> bool:
        asked.append(slow.slices)
        return len(asked) <= 2

    started(slow, busy=busy).edited(slow.uri)
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    # Once more when it is over: the next key may be about to come.
    assert asked == [0, 0, 0, 0, 1, 2]
