"""An acceptance that waits for a busy store: the status is degraded, and recovers only if the store has its row."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

import midspan.server.client_events
from midspan.server.client_events import STORE_BUSY, accepted, partially_accepted
from midspan.server.completion import DID_ACCEPT
from midspan.server.session import Session


@pytest.mark.parametrize(("stored", "well"), [(True, ["telemetry"]), (False, [])])
async def test_the_status_recovers_only_if_a_late_store_has_the_acceptance(
    monkeypatch: pytest.MonkeyPatch, stored: bool, well: list[str]
) -> None:
    monkeypatch.setattr(midspan.server.client_events, "STORED_S", 0.0)
    waiting, told, fine = Future[bool](), list[tuple[str, str]](), list[str]()
    session: Any = SimpleNamespace(
        offered={"a1"},
        engine=None,
        telemetry=SimpleNamespace(accepted=lambda id: waiting),
        aftermath=SimpleNamespace(told=lambda id: None),
        protocol=SimpleNamespace(kept=nullcontext),
        degrade=lambda of, message: told.append((of, message)),
        status=SimpleNamespace(well=fine.append),
    )
    await accepted(cast(Session, session), "a1")
    assert told == [("telemetry", STORE_BUSY)]
    assert fine == []
    waiting.set_result(stored)
    # The result of the future reaches the coroutine in a later turn of the loop.
    for _ in range(3):
        await asyncio.sleep(0)
    assert fine == well


@pytest.mark.parametrize(("length", "kept"), [(4, ["a1"]), (0, [])])
def test_words_that_are_taken_count_as_kept_by_the_engine(length: int, kept: list[str]) -> None:
    told = list[str]()
    session: Any = SimpleNamespace(engine=SimpleNamespace(kept=told.append), telemetry=None)
    item = {"insertText": "a = 1", "command": {"command": DID_ACCEPT, "arguments": ["a1"]}}
    partially_accepted(session, {"item": item, "acceptedLength": length})
    assert told == kept
