"""Parses in idle time: a tree that a keystroke had no time to finish is finished while nobody types."""

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
    """A collection of given documents."""

    def __init__(self, *documents: Document) -> None:
        super().__init__()
        self._open = {document.uri: document for document in documents}


def started(*documents: Document, busy: Callable[[], bool] = lambda: False) -> Reparse:
    """The started parser of a server's idle time."""
    idle = Reparse(Opened(*documents), busy)
    idle.start()
    return idle


async def test_a_document_is_parsed_in_slices_until_its_tree_is_done() -> None:
    slow = Slow("file:///a.py")
    idle = started(slow)
    idle.edited(slow.uri)
    assert slow.slices == 0
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    assert slow.slices == 3


async def test_the_latest_edited_document_is_parsed_first_and_the_others_later() -> None:
    ended: list[str] = []
    old, new, last = (Slow(f"file:///{name}.py", ended) for name in ("old", "new", "last"))
    idle = started(old, new, last)
    for document in (old, new, last, new):
        idle.edited(document.uri)
    await asyncio.wait_for(old.done.wait(), WAIT_S)
    assert ended == [new.uri, last.uri, old.uri]
    assert (old.slices, new.slices, last.slices) == (3, 3, 3)


async def test_parsing_waits_one_turn_after_an_answer() -> None:
    """Once the answer is sent the server is idle; a key that follows at once must find the event loop free."""
    slow, seen = Slow("file:///a.py"), list[int]()

    def busy() -> bool:
        seen.append(slow.slices)
        return len(seen) == 1

    started(slow, busy=busy).edited(slow.uri)
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    assert seen[:3] == [0, 0, 0]


async def test_after_stop_nothing_is_parsed() -> None:
    old, last, new = (Slow(f"file:///{name}.py") for name in ("old", "last", "new"))
    idle = started(old, last)
    idle.edited(old.uri)
    idle.edited(last.uri)
    idle.stop()
    started(new).edited(new.uri)
    # It began last, so the others would have ended before it.
    await asyncio.wait_for(new.done.wait(), WAIT_S)
    assert (old.slices, last.slices) == (0, 0)


async def test_a_document_that_was_closed_is_not_parsed() -> None:
    gone, there = Slow("file:///gone.py"), Slow("file:///there.py")
    idle, other = started(), started(there)
    idle.edited(gone.uri)
    other.edited(there.uri)
    other.edited(gone.uri)
    await asyncio.wait_for(there.done.wait(), WAIT_S)
    assert gone.slices == 0


async def test_nothing_is_parsed_while_a_request_waits_for_its_answer() -> None:
    slow, slices_seen = Slow("file:///a.py"), list[int]()

    def busy() -> bool:
        slices_seen.append(slow.slices)
        return len(slices_seen) <= 2

    started(slow, busy=busy).edited(slow.uri)
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    # After the answer it waits one more turn, as the next key may be about to come.
    assert slices_seen == [0, 0, 0, 0, 1, 2]
