"""A tree that no keystroke had the time for is finished while nobody types."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from midspan.server.documents import Document, Documents
from midspan.server.idle import Idle

WAIT_S = 30


class Slow(Document):
    """A document whose tree takes three slices after every edit."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, "python", 1, "x = 1\n")
        self.slices = 0
        self.done = asyncio.Event()

    def parse(self, patience_s: float) -> bool:
        """See Document."""
        if not hasattr(self, "done"):
            return super().parse(patience_s)
        self.slices += 1
        if self.slices >= 3:
            self.done.set()
        return self.slices >= 3


class Opened(Documents):
    """Documents of the test's own making."""

    def __init__(self, *documents: Document) -> None:
        super().__init__()
        self._open = {document.uri: document for document in documents}


def started(*documents: Document, busy: Callable[[], bool] = lambda: False) -> Idle:
    """Of a server that runs."""
    idle = Idle(Opened(*documents), busy)
    idle.start()
    return idle


async def test_slices_follow_each_other_until_the_tree_is_done() -> None:
    slow = Slow("file:///a.py")
    idle = started(slow)
    idle.edited(slow.uri)
    assert slow.slices == 0
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    assert slow.slices == 3


async def test_a_newer_edit_goes_first_and_stopping_leaves_all_as_it_is() -> None:
    old, new, last = (Slow(f"file:///{name}.py") for name in ("old", "new", "last"))
    idle = started(old, new, last)
    idle.edited(old.uri)
    idle.edited(new.uri)
    await asyncio.wait_for(new.done.wait(), WAIT_S)
    idle.edited(last.uri)
    idle.stop()
    other = started(new)
    new.done.clear()
    other.edited(new.uri)
    # Begun later, so it would be the second to end.
    await asyncio.wait_for(new.done.wait(), WAIT_S)
    assert (old.slices, last.slices) == (0, 0)


async def test_a_document_that_was_closed_meanwhile_is_let_go() -> None:
    gone, there = Slow("file:///gone.py"), Slow("file:///there.py")
    idle, other = started(), started(there)
    idle.edited(gone.uri)
    other.edited(there.uri)
    await asyncio.wait_for(there.done.wait(), WAIT_S)
    assert gone.slices == 0


async def test_nothing_is_parsed_while_an_answer_is_waited_for() -> None:
    slow, asked = Slow("file:///a.py"), list[int]()

    def busy() -> bool:
        asked.append(slow.slices)
        return len(asked) <= 2

    started(slow, busy=busy).edited(slow.uri)
    await asyncio.wait_for(slow.done.wait(), WAIT_S)
    assert asked == [0, 0, 0, 1, 2]
