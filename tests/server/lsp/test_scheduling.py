"""What a thread asks of Linux's scheduler, as the kernel itself states it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from midspan.server.lsp.scheduling import RESET_ON_FORK, SET, SLICE_NS, attributes, wake_soon
from tests.server.raw_client import complete, connected
from tests.server.scripted import TEXT

on_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in SET, reason="slices are asked for on Linux alone"
)


def in_a_thread(call: Callable[[], None]) -> None:
    """Run a call in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(call).result()


@on_linux
def test_a_thread_asks_for_short_slices_and_its_children_do_not() -> None:
    def parent() -> None:
        usual, nice = attributes(), os.getpriority(os.PRIO_PROCESS, 0)
        soon = wake_soon()
        _, policy, flags, now_nice, _, slice_ns, _, _ = attributes()
        assert (policy, now_nice, flags & RESET_ON_FORK) == (os.SCHED_OTHER, nice, RESET_ON_FORK)
        # Before 6.12 the kernel states no slice.
        assert (soon, slice_ns) == ((True, SLICE_NS) if usual[5] else (False, 0))
        in_a_thread(lambda: child(usual))

    def child(usual: tuple[int, ...]) -> None:
        assert attributes() == usual

    in_a_thread(parent)


@on_linux
def test_who_is_scheduled_otherwise_is_left_alone() -> None:
    def batch() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        before = attributes()
        assert not wake_soon()
        assert attributes() == before

    in_a_thread(batch)


@on_linux
def test_a_server_s_loop_and_reader_are_woken_soon_and_none_of_its_other_threads(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) == [TEXT]
        threads = [int(path.name) for path in Path(f"/proc/{client.process.pid}/task").iterdir()]
        soon = [thread for thread in threads if attributes(thread)[2] & RESET_ON_FORK]
        assert client.process.pid in soon
        assert len(soon) == 2 < len(threads)
        assert client.leave() == 0


def test_other_machines_have_no_such_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert not wake_soon()
