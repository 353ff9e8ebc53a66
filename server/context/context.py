"""What else the engine should see: text from beyond the near window, by source, each with a budget and a time limit,
and lines of other files that the gap's may become.

What is collected for a line is held until the gap leaves it or something else changes: the engine's prefix cache is of
use only where the text before the prefix stays as it is from key to key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from midspan.engine.api import Hole
from midspan.server.context import sources
from midspan.server.context.diagnostics import Diagnosed, Diagnosis
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap, Order, Source
from midspan.server.text.documents import Document, Documents
from midspan.server.text.languages import language_of, name_of
from midspan.server.text.line_index import Place, Range
from midspan.server.text.uris import key_of
from midspan.server.workspace.exclusion import Exclusion
from midspan.server.workspace.indexer_client import Background, Warn, scan_of
from midspan.server.workspace.secrets_in_text import has_private_key, without_secrets

log = logging.getLogger(__name__)

# Code has three to four characters a token; the engine counts exactly, and leaves out what is too much.
CHARS_A_TOKEN = 3
# Of this thread's processor time, for each source.
PATIENCE_S = 0.0003
# Each source and its share of the characters, the most useful first; what one leaves over is the next one's.
SOURCES: tuple[tuple[str, Source, float], ...] = (
    ("headers", sources.headers, 0.15),
    ("imports", sources.imports, 0.15),
    ("this file", sources.here, 0.25),
    ("open files", sources.opened, 0.15),
    ("workspace", sources.workspace, 0.15),
    ("recent edits", sources.edited, 0.1),
    ("diagnostics", sources.diagnostics, 0.05),
)
# Sources that change while the gap's own line does not.
CHANGING = frozenset({"recent edits", "diagnostics"})


@dataclass(frozen=True, slots=True)
class Used:
    """What one source gave, in the order in which the model reads it, and what that took."""

    source: str
    snippets: tuple[str, ...]
    ms: float

    @property
    def chars(self) -> int:
        """Characters in all."""
        return sum(map(len, self.snippets))


def collect(gap: Gap, chars: int, patience_s: float = PATIENCE_S) -> list[Used]:
    """What each source gives for a gap, the most useful source first, within `chars` characters in all.

    A source that takes more than `patience_s` gives what it has found by then.
    """
    used, room, seen = [], 0.0, set[str]()
    for name, source, share in SOURCES:
        room += share * chars
        began, kept = time.thread_time(), list[tuple[Order, str]]()
        for order, snippet in source(gap):
            snippet = _without_secrets(snippet, name_of(gap.hole.language))
            if snippet and snippet not in seen and len(snippet) < room:
                seen.add(snippet)
                kept.append((order, snippet))
                room -= len(snippet) + 1
            if time.thread_time() - began > patience_s:
                break
        snippets = tuple(_uncovered([snippet for _, snippet in sorted(kept)]))
        used.append(Used(name, snippets, 1000 * (time.thread_time() - began)))
    return used


@lru_cache(maxsize=2048)
def _without_secrets(snippet: str, language: str) -> str:
    """A snippet without the lines that may hold a secret, whatever its source; "" where nothing else is left.

    The indexer may not have seen yet what has just been pasted.
    """
    if has_private_key(snippet):
        return ""
    lines = snippet.split("\n")
    kept = without_secrets(lines, language)
    if len(kept) == len(lines):
        return snippet
    marks = (*language_of(language).line_comments, *(begin for begin, _ in language_of(language).block_comments))
    return "\n".join(kept) if any(line.strip() and not line.strip().startswith(marks) for line in kept) else ""


def _uncovered(snippets: Sequence[str]) -> Iterator[str]:
    """The snippets but for those whose lines another one has: a class's outline holds its methods."""
    sets = [{line.strip() for line in snippet.split("\n")} for snippet in snippets]
    for snippet, lines in zip(snippets, sets, strict=True):
        if not any(lines < others for others in sets):
            yield snippet


def as_read(used: Sequence[Used]) -> list[Used]:
    """The sources in the order in which a model reads them: the most useful last, behind it what changes most often.

    So a prompt stays as it is up to what has changed.
    """
    lasting = [one for one in reversed(used) if one.source not in CHANGING]
    return lasting + [one for one in used if one.source in CHANGING]


def in_order(used: Sequence[Used]) -> tuple[str, ...]:
    """The snippets as a Hole has them, see `as_read`."""
    return tuple(snippet for one in as_read(used) for snippet in one.snippets)


class Context:
    """The context of a session; used on the event loop only. It does nothing until an engine has a use for it."""

    def __init__(
        self,
        documents: Documents,
        tokens: int = 0,
        tell: Callable[[str], None] = lambda _: None,
        warn: Warn = lambda _, lasting: None,
    ) -> None:
        """`tell` hears how far the workspace has been read, `warn` what is wrong with the indexer, see Background."""
        self.background = Background(documents, tell, warn)
        self.edits = Edits()
        self.exclusion = Exclusion()
        self._diagnosed = Diagnosed()
        self._documents = documents
        self._tokens = tokens
        self._roots: tuple[Path, ...] = ()
        self._held: tuple[str, int, tuple[str, ...]] | None = None
        self._following = asyncio.Lock()

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that are open."""
        return self._roots

    async def follow(self, tokens: int, lines: Sequence[str], roots: Sequence[Path], exclude: Sequence[str]) -> None:
        """Collect for an engine that reads so many tokens, and looks at lines in some languages of other files.

        From these folders, but for what the user excludes.
        """
        self._roots = tuple(roots)
        self.exclusion.open_folders(roots)
        scan = scan_of(roots, exclude, definitions=tokens > 0, lines=lines)
        self._tokens, self._held = tokens, None
        if not tokens and not lines:
            return
        async with self._following:
            try:
                if not self.background.running:
                    await self.background.start(scan)
                elif scan != self.background.scan:
                    self.background.look(scan)
            except OSError as error:
                log.warning("nothing from other files: the indexer does not start (%s)", error.strerror)

    def see(self, document: Document, place: Place, hole: Hole) -> Hole:
        """A gap with its context, and with the lines of other files that its line may become."""
        elsewhere = self.background.index.lines_near(hole, key_of(document.uri))
        return replace(hole, context=self.at(document, place, hole), other_lines=elsewhere)

    def withheld(self, document: Document, exclude: Sequence[str]) -> str | None:
        """Why nothing may be offered in a document; see withheld below."""
        return withheld(self.exclusion, document, exclude)

    def at(self, document: Document, place: Place, hole: Hole) -> tuple[str, ...]:
        """The context of a gap; the same for every gap on a line while only that line changes."""
        if not self._tokens:
            return ()
        if self._held is not None and self._held[:2] == (document.uri, place[0]):
            return self._held[2]
        used = collect(self._gap(document, place, hole), CHARS_A_TOKEN * self._tokens)
        log.debug("context: %s", described(used))
        self._held = (document.uri, place[0], in_order(used))
        return self._held[2]

    def _gap(self, document: Document, place: Place, hole: Hole) -> Gap:
        return Gap(
            document=document,
            place=place,
            hole=hole,
            index=self.background.index,
            documents=self._documents,
            edits=self.edits,
            diagnosed=self._diagnosed,
            roots=self._roots,
        )

    def opened(self, uri: str) -> None:
        """A document was opened."""
        self.exclusion.forget()
        self._held = None
        self.background.changed(uri)

    def rules_changed(self) -> None:
        """What git ignores may be something else now."""
        self.exclusion.forget()
        self._held = None
        self.background.look_again()

    def changed_on_disk(self, changed: Sequence[str], gone: Sequence[str] = ()) -> None:
        """Files have come, changed or gone; documents that are open are what the client says."""
        self._held = None
        self.background.changed_on_disk(changed, gone)

    def changed(self, uri: str, changes: Sequence[tuple[Range | None, str]]) -> None:
        """A document was edited, by ranges in any encoding: only their lines count."""
        for span, text in changes if self._tokens else ():
            if self._held is not None and not _stays_on(self._held, uri, span, text):
                self._held = None
            self.edits.note(uri, span, text)
            self._diagnosed.note(uri, span, text)
        self.background.changed(uri)

    def diagnosed_in(self, uri: str, found: Sequence[Diagnosis]) -> None:
        """What is wrong in a document now, as another server of the editor says."""
        if self._tokens:
            self._held = None
            self._diagnosed.put(uri, found)

    def closed(self, uri: str) -> None:
        """A document was closed."""
        self._held = None
        self.edits.forget(uri)
        self._diagnosed.forget(uri)
        self.background.closed(uri)

    async def close(self) -> None:
        """End what runs in the background, or is being started."""
        async with self._following:
            await self.background.stop()


def described(used: Sequence[Used]) -> str:
    """Which sources gave how much, and how long they took: no code, and no names."""
    return "; ".join(f"{one.source} {one.chars} characters in {one.ms:.2f} ms" for one in used)


def _stays_on(held: tuple[str, int, tuple[str, ...]], uri: str, span: Range | None, text: str) -> bool:
    """Whether an edit changes nothing but the line that context is held for."""
    if span is None or uri != held[0]:
        return False
    return span[0][0] == span[1][0] == held[1] and "\n" not in text and "\r" not in text


def withheld(exclusion: Exclusion, document: Document, exclude: Sequence[str]) -> str | None:
    """Why nothing may be offered in a document, without its name; None where something may.

    A module such as secrets.py is completed itself for as long as no line of it may hold a secret.
    """
    uri = document.uri
    if (reason := exclusion.reason(uri, exclude, own=True)) is not None:
        return reason
    named = exclusion.reason(uri, exclude)
    if named is None or len(without_secrets(document.lines, document.language_id)) == len(document.lines):
        return None
    return named
