"""Failures of the indexer's process (crash, stop, odd files): it is started again, and the status reports it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from midspan.engine.api import Hole
from midspan.server.text.documents import Documents
from midspan.server.workspace import indexer_client, indexer_process
from midspan.server.workspace.indexer_client import FATAL, PAUSES_S, Background, scan_of
from midspan.server.workspace.indexer_process import IndexerProcess
from midspan.server.workspace.messages import Finding, Reading, Scan
from tests.server.gaps import write_files
from tests.server.raw_client import RawClient, call, complete, connected
from tests.server.scripted import TEXT

WAIT_S = 60.0
SIGNALS = pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])


def indexer_of(client: RawClient) -> psutil.Process:
    """The indexer's process of a running server."""
    [found] = psutil.Process(client.process.pid).children()
    assert "midspan.server.workspace.indexer" in found.cmdline()
    return found


@SIGNALS
def test_the_indexer_is_started_again_and_the_status_reports_it(tmp_path: Path, how: signal.Signals) -> None:
    write_files(tmp_path / "root", {"a.py": "value = 1\n"})
    with connected(tmp_path / "state", "--elsewhere") as client:
        client.start(root=tmp_path / "root")
        read = "scripted on cpu, trained on python; workspace read, 1 of its files may be shown"
        while client.state("ready") != read:
            pass
        os.kill(indexer_of(client).pid, how)
        reason = "was stopped" if how == signal.SIGSTOP else f"ended with code -{int(how)}"
        assert client.state("degraded").startswith(f"the indexer {reason} and is started again")
        while client.state("ready") != read:
            pass
        assert indexer_of(client).is_running()
        assert client.leave() == 0


@asynccontextmanager
async def running(root: Path, warned: list[tuple[str | None, bool]] | None = None) -> AsyncIterator[Background]:
    def warn(problem: str | None, lasting: bool) -> None:
        if warned is not None and (problem, lasting) not in warned[-1:]:
            warned.append((problem, lasting))

    found = Background(Documents(), warn=warn)
    await found.start(scan_of([root], (), lines=("python",)))
    try:
        yield found
    finally:
        await found.stop()


async def scanned(running: Background) -> None:
    async with asyncio.timeout(WAIT_S):
        while not running.index.scanned:
            running.found.clear()
            await running.found.wait()


def lines_found(running: Background, stem: str) -> list[str]:
    return [line.text for line in running.index.lines_near(Hole(prefix=stem, suffix=""), "untitled:x")]


@SIGNALS
async def test_after_a_restart_the_index_holds_the_current_files(tmp_path: Path, how: signal.Signals) -> None:
    write_files(tmp_path, {"a.py": "on_disk = 1\n", "b.py": "gone_now = 1\n"})
    async with running(tmp_path) as found:
        await scanned(found)
        found._documents.open("untitled:1", "python", 1, "in_editor = 1\n")
        assert lines_found(found, "on_d") == ["on_disk = 1"]
        first = found.pid
        assert first is not None
        found.index.scanned = False
        (tmp_path / "b.py").unlink()
        os.kill(first, how)
        await scanned(found)
        async with asyncio.timeout(WAIT_S):
            while not lines_found(found, "in_e"):
                found.found.clear()
                await found.found.wait()
        assert found.pid not in (None, first)
        assert [lines_found(found, stem) for stem in ("on_d", "gone", "in_e")] == [
            ["on_disk = 1"],
            [],
            ["in_editor = 1"],
        ]


def end_of(running: Background) -> asyncio.Event:
    """An event, set once the end of the indexer's process has been handled."""
    ended, process = asyncio.Event(), running._process
    assert process is not None
    told = process._ended

    def follow(one: IndexerProcess, why: str) -> None:
        told(one, why)
        ended.set()

    process._ended = follow
    return ended


async def test_the_number_of_restarts_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(indexer_client, "PAUSES_S", (0.0,) * len(PAUSES_S))
    warned: list[tuple[str | None, bool]] = []
    with caplog.at_level(logging.WARNING):
        async with running(tmp_path, warned) as found:
            for _ in range(len(PAUSES_S) + 1):
                await scanned(found)
                assert found.pid is not None
                found.index.scanned = False
                ended = end_of(found)
                os.kill(found.pid, signal.SIGKILL)
                await asyncio.wait_for(ended.wait(), WAIT_S)
            assert not found.running
            assert found._again is not None
            assert found._again.when() - asyncio.get_running_loop().time() > 500
            # New settings start the indexer at once.
            await found.start(Scan(()))
            await scanned(found)
    assert [lasting for problem, lasting in warned if problem is not None] == [False] * len(PAUSES_S) + [True]
    assert caplog.text.count("and is started again") == len(PAUSES_S)
    assert caplog.text.count("once too often") == 1


async def test_a_file_that_was_being_read_at_two_crashes_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer_client, "PAUSES_S", (0.0,) * len(PAUSES_S))
    write_files(tmp_path, {"fatal.py": "fatal = 1\n", "other.py": "other = 1\n"})
    async with running(tmp_path) as found:
        await scanned(found)
        for _ in range(FATAL):
            assert lines_found(found, "fatal") == ["fatal = 1"]
            assert found._process is not None
            assert found.pid is not None
            found._process.in_hand = str(tmp_path / "fatal.py")
            found.index.scanned = False
            os.kill(found.pid, signal.SIGKILL)
            await scanned(found)
        assert (lines_found(found, "fatal"), lines_found(found, "oth")) == ([], ["other = 1"])
        found._documents.open((tmp_path / "fatal.py").as_uri(), "python", 1, "fatal = 2\n")
        found._documents.open("untitled:after", "python", 1, "after = 1\n")
        found._tell((tmp_path / "fatal.py").as_uri())
        found._tell("untitled:after")
        async with asyncio.timeout(WAIT_S):
            while not lines_found(found, "after"):
                found.found.clear()
                await found.found.wait()
        assert not found.index.may_show(str(tmp_path / "fatal.py"), str(tmp_path / "other.py"))


async def test_the_file_that_is_being_read_is_known(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.py": "a = 1\n"})
    heard: list[tuple[Finding, str]] = []
    done = asyncio.Event()

    def hear(finding: Finding) -> None:
        heard.append((finding, process.in_hand))
        done.set()

    process: IndexerProcess = IndexerProcess(hear, lambda *_: None)
    await process.start()
    process.send(scan_of([tmp_path], (), lines=("python",)))
    async with asyncio.timeout(WAIT_S):
        while len(heard) < 3:
            done.clear()
            await done.wait()
    key = str(tmp_path / "a.py")
    assert heard[0] == (Reading(key), key)
    assert [in_hand for _, in_hand in heard[1:]] == ["", ""]
    await process.stop()


async def test_a_silent_indexer_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await scanned(found)
        first = found.pid
        assert first is not None
        found.index.scanned = False
        ended = end_of(found)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(indexer_process, "LOOK_S", 0.001)
            # As on a system that does not report stopped processes.
            patch.setattr(indexer_process, "_is_stopped", lambda pid: False)
            os.kill(first, signal.SIGSTOP)
            await asyncio.wait_for(ended.wait(), WAIT_S)
        await scanned(found)
        assert found.pid not in (None, first)


async def test_an_idle_indexer_is_left_running(tmp_path: Path) -> None:
    async with running(tmp_path) as found:
        await scanned(found)
        process, first = found._process, found.pid
        assert process is not None
        answered = asyncio.Event()
        told = process._hear

        def hear(finding: Finding) -> None:
            told(finding)
            answered.set()

        process._hear = hear
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(indexer_process, "LOOK_S", 0.001)
            patch.setattr(indexer_process, "SILENT_LOOKS", 10_000_000)
            for _ in range(2):
                answered.clear()
                await asyncio.wait_for(answered.wait(), WAIT_S)
        assert found.pid == first


def test_odd_paths_and_lone_surrogates_do_not_stop_the_indexer(tmp_path: Path) -> None:
    prompts, root = tmp_path / "prompts", tmp_path / "root"
    odd = [
        f"{tmp_path.as_uri()}/{'n' * 300}/x.py",
        f"{tmp_path.as_uri()}/{'d/' * 3000}x.py",
        f"{root.as_uri()}/fifo.py",
        f"{root.as_uri()}/loop/x.py",
        f"{root.as_uri()}/caf%E9.py",
        f"{root.as_uri()}/a%0Ab.py",
        f"{root.as_uri()}/a%00b.py",
        f"{root.as_uri()}/\ud83d.py",
        "untitled:\ud83d",
        "file:",
        "",
    ]
    make_odd(root)
    with connected(tmp_path / "state", "--prompts", str(prompts), "--elsewhere") as client:
        client.start({"exclude": ["x\ud83d"]}, root=root)
        for number, uri in enumerate(odd):
            client.open(f"# \ud83d\nodd_{number} = 1\nx = \n", uri=uri)
            client.ask(complete(10 + number, 2, 4, uri=uri))
        client.open("after_all_of_them = 1\n", uri=(root / "good.py").as_uri())
        here = (root / "here.py").as_uri()
        client.open("", uri=here)
        wanted = {"after_all_of_them = 1", "from_disk = 1", "odd_4 = 1", "odd_5 = 1", "odd_7 = 1", "odd_8 = 1"}
        for number, stem in enumerate(("after", "from", "odd_") * 1000):
            position = {"line": 0, "character": 0}
            text = f"from all import *  # {number}\n{stem}"
            change = {"range": {"start": position, "end": {"line": 9, "character": 0}}, "text": text}
            document = {"uri": here, "version": number + 2}
            client.send(call(None, "textDocument/didChange", {"textDocument": document, "contentChanges": [change]}))
            assert client.ask(complete(100 + number, 1, len(stem), uri=here)) == [TEXT]
            wanted -= {line for text in prompts.read_text().splitlines()[-1:] for line in text.split('"')}
            if not wanted:
                break
        assert not wanted
        client.send(call(None, "textDocument/didClose", {"textDocument": {"uri": odd[0]}}))
        assert client.leave() == 0
        assert "Traceback" not in client.stderr
        assert "the indexer" not in client.stderr


def make_odd(root: Path) -> None:
    """Make a folder with odd files and folders, and one ordinary file."""
    write_files(root, {"pkg/from_disk.py": "from_disk = 1\n", "closed/x.py": "x = 1\n"})
    (root / "pkg" / os.fsdecode(b"caf\xe9.py")).write_bytes(b"latin = 1\n")
    (root / os.fsdecode(b"f\xf6lder")).mkdir()
    (root / os.fsdecode(b"f\xf6lder") / "x.py").write_bytes(b"inner = 1\n")
    (root / "line\nend.py").write_text("line_end = 1\n")
    (root / "closed").chmod(0)
    for name in ("fifo.py", ".gitignore", "pkg/.ignore"):
        os.mkfifo(root / name)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "s.py"))
    (root / "loop").symlink_to("loop")
    (root / "up").symlink_to("..")
    (root / "null.py").symlink_to("/dev/zero")
    (root / "nowhere.py").symlink_to("/nowhere/at/all")
    deep = os.open(root, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=deep)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = inner
    os.close(deep)


async def test_a_file_name_that_is_not_utf8_is_read_like_others(tmp_path: Path) -> None:
    make_odd(tmp_path)
    async with running(tmp_path) as found:
        await scanned(found)
        assert found.index.files == 5
        for stem in ("latin", "inner", "line_e", "from_d", "x = "):
            assert len(lines_found(found, stem)) == 1
