"""`midspan batch`: every marked gap of a tree, by one engine, into a patch; what is done is never done again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from midspan.server.batch.check import Limits, Scratch
from midspan.server.batch.figures import Tally, shown, summary
from midspan.server.batch.journal import Entry, Head, Journal, write_whole
from midspan.server.batch.marks import Mark
from midspan.server.batch.patch import Change, file_patch
from midspan.server.batch.sources import BOM, Source, Sources, Wanted
from midspan.server.batch.writing import Answer, Connect, Page, Writer
from midspan.server.commands.errors import CommandError
from midspan.server.commands.loading import router_for
from midspan.server.text.documents import split_lines
from midspan.server.text.line_index import Place, byte_length

CANDIDATES = 5


def batch_command(arguments: argparse.Namespace, connect: Connect = router_for) -> int:
    """List the gaps, or fill them and write the patch."""
    wanted = Wanted(paths=arguments.paths, exclude=arguments.exclude, pattern=arguments.pattern)
    sources = Sources(wanted)
    found = list(sources)
    if not found:
        marks = "`...` as a body, TODO in an empty block" + (", the pattern" if arguments.pattern else "")
        raise CommandError(f"no gap is marked ({marks}); mark some, or give --pattern")
    if arguments.dry_run:
        _list(found, as_json=arguments.json)
        return 0
    if arguments.candidates is None:
        arguments.candidates = CANDIDATES
    tally = Tally(gaps=sum(len(source.marks) for source in found), files=len(found), excluded=sources.excluded)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(arguments.out, _head(arguments, sources.root)))
        scratch = None
        if arguments.check:
            limits = Limits(seconds=arguments.check_seconds, megabytes=arguments.check_memory)
            scratch = stack.enter_context(Scratch(sources.root, arguments.check, limits))
        writer = Writer(arguments, sources.root, connect)
        stack.callback(writer.close)
        run = _Run(journal=journal, writer=writer, scratch=scratch, tally=tally)
        patch = run.patch(sources, found)
        about = writer.about
    if patch:
        write_whole(arguments.out, patch)
    else:
        arguments.out.unlink(missing_ok=True)
    figures = summary(tally, arguments, about)
    print(json.dumps(figures) if arguments.json else "\n".join(shown(figures, sources.root)))
    return 0


def _list(found: Sequence[Source], *, as_json: bool) -> None:
    """Every gap by file and line, from 1."""
    gaps = [
        {"file": str(source.path), "line": mark.start[0] + 1, "kind": mark.kind}
        for source in found
        for mark in source.marks
    ]
    print(json.dumps(gaps) if as_json else "\n".join(f"{gap['file']}:{gap['line']}: {gap['kind']}" for gap in gaps))


def _head(arguments: argparse.Namespace, root: Path) -> Head:
    return Head(
        checkpoint=arguments.checkpoint,
        engine=arguments.engine,
        seed=arguments.seed,
        candidates=arguments.candidates,
        pattern=arguments.pattern.pattern if arguments.pattern else None,
        check=arguments.check,
        root=str(root),
    )


class _Run:
    """All gaps, file by file."""

    def __init__(self, *, journal: Journal, writer: Writer, scratch: Scratch | None, tally: Tally) -> None:
        self._journal, self._writer, self._scratch, self._tally = journal, writer, scratch, tally

    def patch(self, sources: Sources, found: Sequence[Source]) -> bytes:
        """Fill what is not filled yet; returns the diff of all files."""
        if any(self._left(source) for source in found):
            self._writer.load()
        parts = list[bytes]()
        with self._tally.bar(Console(stderr=True)):
            for known in found:
                source = sources.again(known)
                self._tally.gaps += len(source.marks) - len(known.marks)
                parts.append(self._filled(source))
        return b"".join(parts)

    def _done(self, source: Source) -> dict[tuple[Place, Place], Entry]:
        digest = source.digest
        return {(one.start, one.end): one for one in self._journal.of(source.name) if one.digest == digest}

    def _left(self, source: Source) -> int:
        done = self._done(source)
        return sum((mark.start, mark.end) not in done for mark in source.marks)

    def _filled(self, source: Source) -> bytes:
        """The diff of one file."""
        done, stale = self._done(source), self._journal.of(source.name)
        if stale and not done:
            self._tally.say(f"{source.name}: changed since; its {len(source.marks)} gaps are done anew")
        page, entries = Page(source.document), list[Entry]()
        bom = BOM if source.data.startswith(BOM) else b""
        is_new = self._left(source) > 0
        if is_new:
            self._writer.opened(page.document)
        for number, mark in enumerate(source.marks):
            entry = done.get((mark.start, mark.end))
            if entry is None:
                entry = self._entry(source, page, number, bom)
                self._journal.append(entry)
                self._tally.did(entry)
            else:
                self._tally.had(entry)
            if entry.text:
                page.put(mark, entry.text)
            entries.append(entry)
        if self._scratch is not None:
            self._scratch.write(source.name, bom + page.document.text.encode())
        return file_patch(source.name, source.data, changes(source.data, entries))

    def _entry(self, source: Source, page: Page, number: int, bom: bytes) -> Entry:
        """Fill the gap of a mark, by its number."""
        mark = source.marks[number]
        aside, chars, failed = page.aside(mark, source.marks[number + 1 :]), 0, set[str]()
        for count in self._writer.counts:
            answer = self._writer.answer(page.document, page.open(mark), aside, count).but(failed)
            page.close(mark)
            chars += answer.chars
            text, refused = self._chosen(source, page, mark, answer, bom)
            if text or refused == "key":
                break
            failed.update(answer.texts)
        return Entry(
            file=source.name,
            digest=source.digest,
            start=mark.start,
            end=mark.end,
            kind=mark.kind,
            text=text,
            refused=refused,
            chars=chars,
        )

    def _chosen(self, source: Source, page: Page, mark: Mark, answer: Answer, bom: bytes) -> tuple[str, str]:
        """The text that replaces a mark, or why none does."""
        line_end = page.document.line_end()
        texts = [mark.opening + text.replace("\n", line_end) for text in answer.texts]
        if not texts or self._scratch is None:
            return (texts[0], "") if texts else ("", answer.refused)
        before = page.document.text
        start, end = page.span(mark)
        head = before[: _offset(page.document.lines, start)]
        tail = before[_offset(page.document.lines, end) :]
        tried = [bom + (head + text + tail).encode() for text in texts]
        number = self._scratch.first_that_passes(source.name, bom + before.encode(), tried)
        return ("", "check") if number is None else (texts[number], "")


def _offset(lines: Sequence[str], place: Place) -> int:
    """Code points before a place."""
    return sum(map(len, lines[: place[0]])) + place[1]


def changes(data: bytes, entries: Sequence[Entry]) -> list[Change]:
    """What entries change in the bytes of their file."""
    bom = len(BOM) if data.startswith(BOM) else 0
    lines = split_lines(data[bom:].decode())
    starts = [bom]
    for line in lines:
        starts.append(starts[-1] + byte_length(line))

    def offset(place: Place) -> int:
        return starts[place[0]] + byte_length(lines[place[0]][: place[1]])

    return [
        Change(begin=offset(entry.start), end=offset(entry.end), text=entry.text.encode())
        for entry in entries
        if entry.text
    ]
