"""The scheduling attributes that a thread sets on Linux, as the kernel reports them."""

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
    """Run a call in a new thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(call).result()


@on_linux
def test_a_thread_gets_short_slices_and_its_children_do_not() -> None:
    def parent() -> None:
        usual, nice = attributes(), os.getpriority(os.PRIO_PROCESS, 0)
        soon = wake_soon()
        _, policy, flags, now_nice, _, slice_ns, _, _ = attributes()
        assert (policy, now_nice, flags & RESET_ON_FORK) == (os.SCHED_OTHER, nice, RESET_ON_FORK)
        # A kernel before 6.12 reports no slice.
        assert (soon, slice_ns) == ((True, SLICE_NS) if usual[5] else (False, 0))
        in_a_thread(lambda: child(usual))

    def child(usual: tuple[int, ...]) -> None:
        assert attributes() == usual

    in_a_thread(parent)


@on_linux
def test_a_thread_with_another_policy_keeps_it() -> None:
    def batch() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        before = attributes()
        assert not wake_soon()
        assert attributes() == before

    in_a_thread(batch)


@on_linux
def test_only_the_servers_loop_and_reader_threads_get_short_slices(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) == [TEXT]
        threads = [int(path.name) for path in Path(f"/proc/{client.process.pid}/task").iterdir()]
        soon = [thread for thread in threads if attributes(thread)[2] & RESET_ON_FORK]
        assert client.process.pid in soon
        assert len(soon) == 2 < len(threads)
        assert client.leave() == 0


def test_unknown_machines_keep_the_usual_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert not wake_soon()
