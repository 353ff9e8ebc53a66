"""One gap after the other, by one router: what a single fill would put there, and nothing that it would refuse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace as replace_struct

from midspan.engine.api import About, Hole
from midspan.server.batch.marks import Mark
from midspan.server.commands.explain import SCAN_S
from midspan.server.commands.fill import Gap, answer, in_its_place
from midspan.server.context.context import CHARS_A_TOKEN, collect, in_order
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap as ContextGap
from midspan.server.router.router import Router
from midspan.server.text.documents import Document, Documents, end_of
from midspan.server.text.hole import build_hole
from midspan.server.text.line_index import Place, Range
from midspan.server.text.trial import Trial
from midspan.server.text.uris import key_of
from midspan.server.validation.splice import Files, Kind
from midspan.server.validation.validators import judged
from midspan.server.workspace.index import Index
from midspan.server.workspace.indexer import Workspace
from midspan.server.workspace.indexer_client import opened, scan_of
from midspan.server.workspace.secrets_in_text import asks_about_a_key

STUB = "..."
# Texts that say nothing, whatever the language.
NOTHING = (STUB, ";")
Connect = Callable[[argparse.Namespace], Router]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The texts that may stand in a gap, best first; or why there is none, in a word. `chars` is what was written."""

    texts: Sequence[str] = ()
    refused: str = ""
    chars: int = 0

    def but(self, texts: Collection[str]) -> Answer:
        """The answer without texts that a command has failed with."""
        left = [text for text in self.texts if text not in texts]
        return replace(self, texts=left, refused="" if left else self.refused or "check")


class Writer:
    """What writes texts for gaps below a root. The router is connected for the first one: a run may need none."""

    def __init__(self, arguments: argparse.Namespace, root: Path, connect: Connect) -> None:
        self._arguments, self._root, self._connect = arguments, root, connect
        self._loaded = False

    @cached_property
    def _router(self) -> Router:
        router = self._connect(self._arguments)
        self._loaded = True
        return router

    @cached_property
    def _surroundings(self) -> _Surroundings:
        return _Surroundings(self._root, self._router.about, self._arguments.exclude)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many texts a gap is asked for, and again where none is kept: several take much longer than one."""
        most: int = self._arguments.candidates
        return (1, most) if most > 1 else (1,)

    @property
    def about(self) -> About | None:
        """What is loaded; None where nothing was needed."""
        return self._router.about if self._loaded else None

    def close(self) -> None:
        """End the engines."""
        if self._loaded:
            self._router.close()

    def load(self) -> None:
        """Load what writes. Raises what `connect` raises."""
        assert self._router.connected

    def opened(self, document: Document) -> None:
        """A document is about to be filled."""
        self._surroundings.opened(document)

    def answer(self, document: Document, span: Range, aside: Document | None, candidates: int) -> Answer:
        """What may stand in a span of a parsed document. In `aside`, if there is one, all errors are the span's."""
        hole = build_hole(document, *span)
        if asks_about_a_key(hole):
            return Answer(refused="key")
        asked = argparse.Namespace(**vars(self._arguments) | {"candidates": candidates})
        hole = self._surroundings.seen(document, span[0], hole)
        gap = Gap(document=document, span=span, hole=hole, origin="background")
        first = gap.judged(answer(self._router, gap, asked))
        found = in_its_place(self._router, gap, first, asked)
        objected = [one.kind for one in found.verdict.objections]
        stands = text_of(document, span)
        texts = [text for text in found.verdict.sure if text.strip() not in (stands, *NOTHING)]
        same = [] if len(texts) == len(found.verdict.sure) else ["same"]
        more = list[Kind]()
        if aside is not None:
            texts, more = self._strictly(texts, span, aside)
        return Answer(
            texts=texts[:candidates],
            refused="" if texts else next(iter((*objected, *more, *same)), "empty"),
            chars=sum(len(one.text) for one in found.fill.candidates),
        )

    def _strictly(self, texts: Sequence[str], span: Range, document: Document) -> tuple[list[str], list[Kind]]:
        """Those texts that have no error beside them, and of the others why: a single fill has somebody who looks."""
        trial = Trial(document, *span)
        verdict = judged(trial, texts, Files(folders=(self._root,), patience_s=SCAN_S))
        whole = [text for text in verdict.sure if not trial.breaks(text) and not trial.is_refused(text)]
        broken: list[Kind] = ["parse"] if len(whole) < len(verdict.sure) else []
        return whole, [*(one.kind for one in verdict.objections), *broken]


def text_of(document: Document, span: Range) -> str:
    """What stands in a span."""
    (first, column), (last, end) = span
    if first == last:
        return document.lines[first][column:end]
    return "".join([document.lines[first][column:], *document.lines[first + 1 : last], document.lines[last][:end]])


class _Surroundings:
    """What a checkpoint reads of the other files of a tree, which is read once."""

    def __init__(self, root: Path, about: About, exclude: Sequence[str]) -> None:
        self._root, self._about = root, about
        lines = about.languages if about.reads_other_lines else ()
        scan = replace_struct(
            scan_of((root,), exclude, definitions=about.context_tokens > 0, lines=lines), seconds=SCAN_S
        )
        self._workspace, self._index, self._documents = Workspace(), Index(scan.roots), Documents()
        self._reads = bool(lines) or about.context_tokens > 0
        for finding in self._workspace.scan(scan) if self._reads else ():
            self._index.take(finding)

    def opened(self, document: Document) -> None:
        """The document's own text, of which its gaps know already."""
        for finding in self._workspace.opened(opened(document)) if self._reads else ():
            self._index.take(finding)

    def seen(self, document: Document, place: Place, hole: Hole) -> Hole:
        """The hole with what the checkpoint reads of other files."""
        if not self._reads:
            return hole
        gap = ContextGap(
            document=document,
            place=place,
            hole=hole,
            index=self._index,
            documents=self._documents,
            edits=Edits(),
            roots=(self._root,),
        )
        tokens = self._about.context_tokens
        used = collect(gap, CHARS_A_TOKEN * tokens, patience_s=SCAN_S) if tokens else []
        lines = self._index.lines_near(hole, key_of(document.uri)) if self._about.reads_other_lines else ()
        return replace(hole, context=in_order(used), other_lines=lines)


class Page:
    """A document whose marks are filled in order, each behind what was put into the ones before it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        # Where the last text ended in the file, and where it ends now.
        self._old: Place = (0, 0)
        self._new: Place = (0, 0)

    def span(self, mark: Mark) -> Range:
        """Where a mark is now, with nothing opened."""
        return self._moved(mark.start), self._moved(mark.end)

    def open(self, mark: Mark) -> Range:
        """Put in what opens a mark's gap; returns the gap."""
        start, end = self.span(mark)
        if mark.opening:
            self.document.edit((start, end), mark.opening)
            start = end = end_of(start, mark.opening)
        self.document.parse(math.inf)
        return start, end

    def aside(self, mark: Mark, later: Sequence[Mark]) -> Document | None:
        """The document in which an error is this mark's: with a stub in place of each later one, which may be errors.

        It is to be asked for before the mark is opened. None where the language has no stub that stands for anything.
        """
        later = [one for one in later if one.kind == "pattern" or one.opening]
        if not later:
            return self.document
        if self.document.language_id != "python":
            return None
        out = Document(self.document.uri, self.document.language_id, 0, self.document.text)
        for one in reversed(later):
            out.edit(self.span(one), one.opening + STUB)
        if mark.opening:
            out.edit(self.span(mark), mark.opening)
        out.parse(math.inf)
        return out

    def close(self, mark: Mark) -> None:
        """Take out what opened a mark's gap."""
        start, _ = self.span(mark)
        if mark.opening:
            self.document.edit((start, end_of(start, mark.opening)), "")

    def put(self, mark: Mark, text: str) -> None:
        """Put a text, what opens the gap included, in a mark's place."""
        start, end = self.span(mark)
        self.document.edit((start, end), text)
        self._old, self._new = mark.end, end_of(start, text)

    def _moved(self, place: Place) -> Place:
        (line, column), (new_line, new_column) = self._old, self._new
        if place[0] == line:
            return new_line, new_column + place[1] - column
        return place[0] + new_line - line, place[1]
