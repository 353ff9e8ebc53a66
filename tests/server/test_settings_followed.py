"""Changes of settings while the server runs or loads: indexer and engine follow, and nothing starts once it is off."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from midspan.engine.api import OnProgress
from midspan.server.lifecycle import follow_settings
from midspan.server.session import Session
from midspan.server.settings import Settings
from tests.server.inside import Inside
from tests.server.scripted import ScriptedEngine


@asynccontextmanager
async def serving(state_dir: Path, gate: threading.Event, context_tokens: int = 100) -> AsyncIterator[Session]:
    """An enabled server whose engine reads context, and whose engine is loaded once the gate is open."""
    engine = ScriptedEngine()
    engine.about = replace(engine.about, context_tokens=context_tokens)

    def load(_checkpoint: str, _device: str, _progress: OnProgress) -> ScriptedEngine:
        gate.wait()
        return engine

    inside = Inside(state_dir, load)
    inside.initialize()
    inside.server.settings = Settings(telemetry=False)
    try:
        yield inside.server
    finally:
        gate.set()
        await inside.server.context.close()
        engine.close()
        # Loading froze all objects of this process for the garbage collector; other tests need it to collect them.
        gc.unfreeze()


async def switch_off(server: Session) -> None:
    server.settings = Settings(telemetry=False, enable=False)
    await follow_settings(server)


async def test_the_indexer_collects_only_the_findings_that_the_engine_uses(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()
    async with serving(tmp_path, gate) as server:
        await follow_settings(server)
        assert server.engine is not None
        engine = server.engine.seats[0].engine
        assert isinstance(engine, ScriptedEngine)
        background = server.context.background
        for tokens, elsewhere, chosen, wanted in (
            (100, False, {}, (True, ())),
            (0, True, {}, (False, ("python",))),
            (100, True, {"go": True}, (True, ("python", "go"))),
            (0, True, {"go": True, "python": False}, (False, ("go",))),
        ):
            engine.about = replace(engine.about, context_tokens=tokens, reads_other_lines=elsewhere)
            server.settings = Settings(telemetry=False, languages=chosen)
            await follow_settings(server)
            assert (background.scan.definitions, background.scan.lines) == wanted
            assert background.running


async def test_no_indexer_runs_for_an_engine_that_reads_no_other_files(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()
    async with serving(tmp_path, gate, context_tokens=0) as server:
        await follow_settings(server)
        assert not server.context.background.running


async def test_no_indexer_is_started_if_switched_off_while_the_model_loads(tmp_path: Path) -> None:
    gate = threading.Event()
    async with serving(tmp_path, gate) as server:
        starting = asyncio.create_task(follow_settings(server))
        await asyncio.sleep(0)
        assert server.loading
        await switch_off(server)
        gate.set()
        await starting
        assert server.engine is not None
        assert not server.context.background.running


async def test_the_indexer_is_ended_if_switched_off_while_it_starts(tmp_path: Path) -> None:
    gate = threading.Event()
    gate.set()
    async with serving(tmp_path, gate) as server:
        await follow_settings(server)
        assert server.context.background.running
        await switch_off(server)
        server.settings = Settings(telemetry=False)
        starting = asyncio.create_task(follow_settings(server))
        await asyncio.sleep(0)
        await switch_off(server)
        await starting
        assert not server.context.background.running
