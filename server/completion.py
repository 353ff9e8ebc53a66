"""Inline completion without I/O: from the client's request to a hole, from the engine's fill to items."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
from lsprotocol import types

from midspan.engine.api import Candidate, Fill, Hole
from midspan.server.postprocess.trim import trim
from midspan.server.router.records import Record
from midspan.server.telemetry.events import Offer, Setup
from midspan.server.text.documents import Document, Encoding
from midspan.server.text.hole import build_hole, encodable
from midspan.server.text.line_index import Place
from midspan.server.text.trial import Trial
from midspan.server.validation.splice import NO_FOLDERS, Files, Objection
from midspan.server.validation.validators import Verdict, judged

DID_ACCEPT = "midspan.didAccept"
# The least characters, without blanks around them, of an automatic suggestion: accepting one costs a key itself.
WORTH_A_KEY = 2
See = Callable[[Document, Place, Hole], Hole]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a request wants text: the span to replace (empty at a cursor), behind a menu's entry if there is one.

    `range` is the span in the client's encoding.
    """

    start: Place
    end: Place
    range: types.Range
    selected: str


class Source(NamedTuple):
    """Whose fill it is: a checkpoint, the router's decision where it had a choice, and for whom it is.

    `digest`, `layout` and `device` are the checkpoint's, as far as they are known.
    """

    checkpoint: str
    route: Record | None = None
    client: str = ""
    digest: str = ""
    layout: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A completion request as it came; `range`, in the client's encoding, is what an item replaces.

    `trial` is that range in the document. `objections` has what validators said of texts that came for it. `began` is
    its time by `time.perf_counter`, and collecting other text took `context_ms` since.
    """

    uri: str
    version: int
    hole: Hole
    range: types.Range
    selected: str
    invoked: bool
    line_end: str
    trial: Trial
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: float = field(default_factory=time.perf_counter)
    context_ms: float = 0.0
    objections: list[Objection] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A fill, what may be wanted of it by its whole text (behind a menu's entry, if there is one), and the verdict."""

    fill: Fill
    wanted: Mapping[str, Candidate]
    verdict: Verdict


def spot_of(document: Document, params: types.InlineCompletionParams, encoding: Encoding) -> Spot | None:
    """The request's place in the document as it is now; None if the menu's entry would replace several lines.

    A backward range is put in order.
    """
    info = params.context.selected_completion_info
    here = types.Range(params.position, params.position) if info is None else info.range
    selected = "" if info is None else info.text
    span = (here.start.line, here.start.character), (here.end.line, here.end.character)
    start, end = document.places(span, encoding)
    if start[0] != end[0]:
        return None
    range = types.Range(_position(document, start, encoding), _position(document, end, encoding))
    return Spot(start=start, end=end, range=range, selected=selected)


def completion_at(document: Document, spot: Spot, see: See, *, invoked: bool) -> Completion:
    """The request against the document as it is now; `see` adds other text to the hole."""
    began = time.perf_counter()
    hole = see(document, spot.start, build_hole(document, spot.start, spot.end, spot.selected))
    return Completion(
        uri=document.uri,
        version=document.version,
        hole=replace(hole, prefix=encodable(hole.prefix), suffix=encodable(hole.suffix)),
        range=spot.range,
        selected=spot.selected,
        invoked=invoked,
        line_end=document.line_end(),
        trial=Trial(document, spot.start, spot.end),
        began=began,
        context_ms=1000 * (time.perf_counter() - began),
    )


def setup_of(completion: Completion, source: Source, engine: str) -> Setup:
    """Who asked, and what answered; `engine` is its name where the router had a choice."""
    return Setup(
        language=completion.hole.language,
        kind=completion.hole.kind,
        trigger="invoked" if completion.invoked else "automatic",
        checkpoint=source.checkpoint,
        client=source.client,
        digest=source.digest,
        engine=engine,
        layout=source.layout,
        device=source.device,
    )


def behind_selected(completion: Completion, whole: str, objection: Objection) -> tuple[str, Objection]:
    """What is put behind a menu's entry, and what is wrong in that."""
    skipped = len(completion.selected)
    spans = tuple((max(0, begin - skipped), end - skipped) for begin, end in objection.spans if end > skipped)
    return whole[skipped:], replace(objection, spans=spans)


def _position(document: Document, place: Place, encoding: Encoding) -> types.Position:
    return types.Position(place[0], document.character(place, encoding))


def judge(completion: Completion, fill: Fill, threshold: float, files: Files = NO_FOLDERS) -> Judged:
    """The texts of a fill that may be wanted in place of the range, and the verdict on them.

    Only an explicit request gets those below the threshold, and those that are typed as quickly as accepted.
    """
    wanted: dict[str, Candidate] = {}
    for candidate in fill.candidates:
        text = trim(completion.hole, candidate.text)
        if text and (completion.invoked or (candidate.confidence >= threshold and len(text.strip()) >= WORTH_A_KEY)):
            wanted.setdefault(completion.selected + text, candidate)
    verdict = judged(completion.trial, list(wanted), files)
    completion.objections.extend(verdict.objections)
    return Judged(fill=fill, wanted=wanted, verdict=verdict)


def choices(completion: Completion, found: Judged, source: Source) -> Iterator[tuple[str, Offer]]:
    """What to put in place of the range, best first, each with its row; the best alone where nobody has asked."""
    fill, setup = found.fill, msgspec.structs.asdict(setup_of(completion, source, found.fill.engine))
    shown = found.verdict.shown(invoked=completion.invoked)
    for number, whole in enumerate(shown if completion.invoked else shown[:1]):
        text, candidate = whole.removeprefix(completion.selected), found.wanted[whole]
        id = f"{completion.id}-{number}" if number else completion.id
        yield (
            # A menu's entry goes back as the client has it.
            completion.selected + text.replace("\n", completion.line_end),
            Offer(
                **setup,
                id=id,
                uri=completion.uri,
                confidence=candidate.confidence,
                chars=len(text),
                lines=text.count("\n") + 1,
                latency_ms=1000 * (time.perf_counter() - completion.began),
                engine_ms=fill.latency.total,
                steps=fill.steps,
                route=source.route.choice.reason if source.route is not None else "",
            ),
        )


def item_of(id: str, text: str, range: types.Range) -> types.InlineCompletionItem:
    """The item that replaces a range by a text."""
    command = types.Command(title="midspan: accepted", command=DID_ACCEPT, arguments=[id])
    return types.InlineCompletionItem(insert_text=text, range=range, command=command)
