"""`midspan fill`: one gap of one file."""

from __future__ import annotations

import argparse
import json
import math
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from midspan.engine.api import About, Budget, Candidate, Fill, Hole
from midspan.server.commands.errors import CommandError
from midspan.server.commands.explain import SCAN_S, SHOWN_TOKENS, explain, gather, root_of
from midspan.server.commands.loading import router_for
from midspan.server.commands.watch import Watched
from midspan.server.context.context import in_order
from midspan.server.postprocess.misplaced import nothing_fits
from midspan.server.postprocess.trim import trim
from midspan.server.router.asks import AUTO, Origin, Wish
from midspan.server.router.router import Router
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole
from midspan.server.text.languages import BY_EXTENSION, PLAIN, is_on
from midspan.server.text.line_index import Place
from midspan.server.text.trial import Trial
from midspan.server.validation.remedies import CANDIDATES, NEXT, NOTHING, Again, ways_out
from midspan.server.validation.splice import Files
from midspan.server.validation.validators import Verdict, judged
from midspan.server.workspace.secrets_in_text import KEY_NEAR, asks_about_a_key

CONTEXT_LINES = 2
# A longer file takes a minute to parse before anything is seen.
MAX_FILE_BYTES = 32 << 20
# A server that accepts and stays silent is waited for no longer; the model on this machine has the time that it needs.
ELSEWHERE_S = 30.0


def open_document(file: Path) -> Document:
    """Read a file as the editor would. Raises CommandError with the fix."""
    try:
        if not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():
            raise CommandError(f"{file}: a pipe, a socket or a device; give a plain file")
        if file.stat().st_size > MAX_FILE_BYTES:
            raise CommandError(f"{file}: over {MAX_FILE_BYTES >> 20} MB; give a part of it as a file of its own")
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise CommandError(f"{file}: no such file; give a file that exists") from error
    except IsADirectoryError as error:
        raise CommandError(f"{file}: a folder; give a file") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not UTF-8 at byte {error.start}; convert it first") from error
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; make it readable") from error
    document = Document(file.resolve().as_uri(), BY_EXTENSION.get(file.suffix.lower(), PLAIN.name), 0, text)
    document.parse(math.inf)
    return document


def place_of(document: Document, position: tuple[int, int], file: Path) -> Place:
    """A 1-based position as line and column; a column past the line's end becomes the end, with a word on stderr."""
    line, column = position[0] - 1, position[1] - 1
    if line >= len(document.lines):
        raise CommandError(f"{file}: line {line + 1} is past the last one, {len(document.lines)}; give a smaller line")
    length = len(document.content(line))
    if column > length:
        print(f"midspan: column {column + 1} is past the end of line {line + 1}; using {length + 1}", file=sys.stderr)
    return line, min(column, length)


def fill_command(arguments: argparse.Namespace) -> int:
    """Fill the gap and print it."""
    document = open_document(arguments.file)
    start = place_of(document, arguments.at, arguments.file)
    end = start if arguments.to is None else place_of(document, arguments.to, arguments.file)
    if end < start:
        raise CommandError("--to stands before --at; swap them")
    hole = build_hole(document, start, end)
    if asks_about_a_key(hole):
        raise CommandError(f"{arguments.file}: {KEY_NEAR}; move it to a file of its own")
    router = router_for(arguments)
    about = router.about
    if not is_on(hole.language, about.languages, {}):
        trained = ", ".join(about.languages)
        print(f"midspan: {about.checkpoint} was trained on {trained}, not on {hole.language}", file=sys.stderr)
    try:
        hole = _seen(document, start, hole, about, arguments)
        gap = Gap(document=document, span=(start, end), hole=hole)
        first = gap.judged(answer(router, gap, arguments))
        decision = router.last if arguments.explain else None
        found = in_its_place(router, gap, first, arguments)
        about = router.about_of(found.fill.engine)
    finally:
        router.close()
    kept = _kept(document, found)[: arguments.candidates]
    if decision is not None and not arguments.json:
        print(f"decision: {decision.line()}")
    if arguments.json:
        print(json.dumps(as_json(found.fill, kept, about) | ({"decision": decision.as_json()} if decision else {})))
    elif not kept:
        print("midspan: nothing to insert here", file=sys.stderr)
    elif len(kept) == 1 and sys.stdout.isatty():
        Console(highlight=False, soft_wrap=True).print(in_place(document, start, end, kept[0].text))
    else:
        print(_plain(kept))
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A fill, the confidence of each text that it would put in, the best first, and the verdict on them."""

    fill: Fill
    confidences: Mapping[str, float]
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span of a document, and the hole in its place."""

    document: Document
    span: tuple[Place, Place]
    hole: Hole
    origin: Origin = "invoked"

    def judged(self, fill: Fill) -> Judged:
        """A fill, as an editor's server would judge it."""
        confidences: dict[str, float] = {}
        for candidate in fill.candidates if not nothing_fits(self.hole) else ():
            text = trim(self.hole, candidate.text)
            if text is not None:
                confidences.setdefault(text, candidate.confidence)
        files = Files(folders=(root_of(self.document),), patience_s=SCAN_S)
        verdict = judged(Trial(self.document, *self.span), list(confidences), files)
        return Judged(fill=fill, confidences=confidences, verdict=verdict)

    def wish(self, arguments: argparse.Namespace) -> Wish:
        """What is wished of the router."""
        return Wish(origin=self.origin, uri=self.document.uri, engine=arguments.engine or AUTO)


def _budget(router: Router, arguments: argparse.Namespace) -> Budget:
    deadline_s = None if all(seat.member.here for seat in router.seats) else ELSEWHERE_S
    return Budget(candidates=arguments.candidates, seed=arguments.seed, deadline_s=deadline_s)


def answer(router: Router, gap: Gap, arguments: argparse.Namespace) -> Fill:
    """The fill. Raises CommandError where the engine that is named may not see the file."""
    budget, engine = _budget(router, arguments), router.wishing(gap.wish(arguments))
    if arguments.watch:
        with Watched(sys.stderr if arguments.json else sys.stdout) as watched:
            fill = engine.fill(gap.hole, budget, on_frame=watched.on_frame).result()
    else:
        fill = engine.fill(gap.hole, budget).result()
    if (decision := router.last) is not None and not decision.choice.order:
        raise CommandError(f"{decision.choice.reason}; leave --engine out, or change config.toml")
    return fill


def in_its_place(router: Router, gap: Gap, first: Judged, arguments: argparse.Namespace) -> Judged:
    """A fill, or what takes its place where validators object to all of it."""
    verdict, record = first.verdict, router.last
    if not verdict.objected or record is None or verdict.sure[:1] == (next(iter(first.confidences)),):
        return first
    budget, candidates = _budget(router, arguments), max(CANDIDATES, arguments.candidates)
    found, remedy, kinds = first, NEXT if verdict.sure else NOTHING, [one.kind for one in verdict.objections]
    ways: Iterable[Again] = () if verdict.sure else ways_out(router, record, gap.hole, *verdict.objected[0])
    for again in ways:
        engine = router.wishing(again.wish(gap.wish(arguments)))
        other = gap.judged(engine.fill(again.hole, replace(budget, candidates=candidates)).result())
        kinds += [one.kind for one in other.verdict.objections]
        threshold = router.about_of(other.fill.engine).show_threshold
        # Somebody who asks gets rather what is held back than what nobody would be offered.
        if any(other.confidences[text] >= threshold for text in other.verdict.sure):
            found, remedy = other, again.remedy
            break
    router.held_back(record, kinds, remedy)
    return found


def _kept(document: Document, found: Judged) -> list[Candidate]:
    """What an editor would be offered on request, best first."""
    texts, line_end = found.verdict.shown(invoked=True), document.line_end()
    return [Candidate(text=text.replace("\n", line_end), confidence=found.confidences[text]) for text in texts]


def _seen(document: Document, start: Place, hole: Hole, about: About, arguments: argparse.Namespace) -> Hole:
    """The hole with what the checkpoint reads of other files, explained if the user asks.

    For a checkpoint that reads no context, the explanation shows what another one would read.
    """
    if not about.context_tokens and not about.reads_other_lines and not arguments.explain:
        return hole
    tokens = about.context_tokens or (SHOWN_TOKENS if arguments.explain else 0)
    used, lines = gather(document, start, hole, about, tokens=tokens)
    hole = replace(hole, context=in_order(used) if about.context_tokens else (), other_lines=lines)
    if arguments.explain:
        explain(used, hole, about, sys.stderr if arguments.json else sys.stdout)
    return hole


def in_place(document: Document, start: Place, end: Place, text: str) -> Text:
    """The fill, marked, between the lines around it."""
    first, last = max(0, start[0] - CONTEXT_LINES), end[0] + CONTEXT_LINES + 1
    before = "".join([*document.lines[first : start[0]], document.lines[start[0]][: start[1]]])
    after = "".join([document.lines[end[0]][end[1] :], *document.lines[end[0] + 1 : last]])
    shown = Text.assemble((before, "dim"), (text, "bold green"), (after, "dim"))
    shown.rstrip()
    return shown


def as_json(fill: Fill, kept: list[Candidate], about: About) -> dict[str, object]:
    """The object that `--json` prints; `kept` are the trimmed candidates, best first."""
    return {
        "text": kept[0].text if kept else "",
        "confidence": kept[0].confidence if kept else 0.0,
        "candidates": [asdict(candidate) for candidate in kept],
        "steps": fill.steps,
        "stopped": fill.stopped,
        "checkpoint": about.checkpoint,
        "device": about.device,
        "latency_ms": asdict(fill.latency),
    }


def _plain(kept: list[Candidate]) -> str:
    if len(kept) == 1:
        return kept[0].text
    return "\n".join(f"{candidate.confidence:.2f}  {candidate.text}" for candidate in kept)
