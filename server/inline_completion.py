"""Inline completion: from memory where what was typed runs along an earlier suggestion, else from the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lsprotocol import types

from midspan.engine.api import Budget, Fill, Frame
from midspan.server.calibration.own import own_for
from midspan.server.completion import (
    Completion,
    Judged,
    Source,
    Spot,
    behind_selected,
    choices,
    completion_at,
    item_of,
    judge,
    setup_of,
    spot_of,
)
from midspan.server.engine_errors import EngineFailed
from midspan.server.lsp.decisions import NOTHING_FITS, decided, objected, remedied
from midspan.server.postprocess.misplaced import nothing_fits
from midspan.server.preview import Preview
from midspan.server.requests import Request
from midspan.server.router.asks import AUTO
from midspan.server.router.race import empty
from midspan.server.router.records import Record, Remedy
from midspan.server.router.router import Router
from midspan.server.session import Session
from midspan.server.suggestions import Offered
from midspan.server.telemetry.events import Fate, Offer, Veto
from midspan.server.telemetry.fates import Answered, Asking, answered_row, ended_row, fate_of
from midspan.server.text.documents import Document, units
from midspan.server.text.hole import lf
from midspan.server.text.languages import is_on, off_because
from midspan.server.validation.remedies import CANDIDATES, LEAST_S, NEXT, NOTHING, Again, ways_out
from midspan.server.workspace.exclusion import is_matched
from midspan.server.workspace.secrets_in_text import KEY_NEAR, asks_about_a_key

CANDIDATES_WHEN_INVOKED = 3
# Neovim splits an item at LF and ends its lines as the file does: a CR of ours would stand in the buffer.
LF_CLIENTS = frozenset(("Neovim",))
AUTOMATIC = types.InlineCompletionTriggerKind.Automatic


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A fill as it was judged, the confidence that it needed, whose it is, and the router's record of it.

    `at` is when it came, by `time.perf_counter`.
    """

    judged: Judged
    threshold: float
    checkpoint: str
    record: Record | None
    at: float

    @property
    def replaces(self) -> bool:
        """Whether it may take the place of what was held back: with a text that passes and is sure, whoever asks."""
        wanted = self.judged.wanted
        return any(wanted[text].confidence >= self.threshold for text in self.judged.verdict.sure)

    @property
    def remedy(self) -> Remedy | None:
        """What came of it, where validators objected to it."""
        return None if self.record is None else self.record.remedy


async def items_for(session: Session, params: types.InlineCompletionParams) -> list[types.InlineCompletionItem] | None:
    """What to offer; None before the engine is loaded, for what it does not know, and when a newer request came."""
    engine, document = session.engine, session.documents.get(params.text_document.uri)
    if engine is None or document is None or not _is_on(session, engine, document):
        return None
    invoked = session.trigger_kinds.is_invoked(params.context.trigger_kind)
    if not invoked and _is_quiet(session, document):
        return []
    spot = spot_of(document, params, session.encoding)
    if spot is None:
        return None
    known = session.suggestions.recall(document, spot.start, spot.end, spot.selected)
    again = () if known is None else known.offers if invoked else known.offers[:1]
    if known is not None and (known.complete or not invoked):
        # An older request about another place of the document is out of date.
        session.requests.supersede(document.uri)
        return [_item(session, spot, offer) for offer in again]
    completion = completion_at(document, spot, session.context.see, invoked=invoked)
    if (reason := _held_back(session, completion)) is not None:
        session.requests.supersede(document.uri)
        session.decisions.note(document.uri, reason)
        _note(session, completion, "held_back", "key" if reason == KEY_NEAR else "no_fit")
        return []
    answers = await _answers(session, engine, completion)
    if answers is None:
        return None
    first, answer = answers
    source = source_of(session, engine, answer.judged.fill.engine, _route(session, engine, answer.record))
    new = _new(session, choices(completion, answer.judged, source), again)
    offers = [*again, *new]
    answered = Answered(fill=answer.judged.fill, source=source, at=answer.at, id=new[0].id if new else None)
    _tell(session, completion, answers, answered, offered=len(offers))
    if offers or first.judged.fill.stopped != "deadline":
        session.suggestions.remember(document, spot.start, spot.end, offers, invoked=invoked)
        session.aftermath.offered(document, spot.start, spot.end, offers)
    # An empty list takes old ghost text away; Neovim lets it stand after null.
    return [_item(session, spot, offer) for offer in offers]


def source_of(session: Session, engine: Router, name: str, route: Record | None = None) -> Source:
    """Whose fill it is: the engine of this name, where the router had a choice."""
    about = engine.about_of(name)
    digest = session.digest if about.checkpoint == engine.about_of("").checkpoint else ""
    return Source(about.checkpoint, route, session.client_name, digest, about.layout, about.device)


def _tell(
    session: Session, completion: Completion, answers: tuple[Answer, Answer], answered: Answered, *, offered: int
) -> None:
    """Note what became of a request: in words, with the router's records where an engine was chosen, and as rows."""
    first, answer = answers
    reason = None if offered else objected(completion.objections)
    said = [reason or decided(answered.fill, answer.threshold, session.settings.deadline_ms, offered=offered)]
    said[0] += remedied(completion.objections, first.remedy)
    if answered.source.route is not None:
        said += [one.record.line() for one in answers if one.record is not None]
    session.decisions.note(completion.uri, "; ".join(dict.fromkeys(said)))
    _count_vetoes(session, completion, first)
    if session.telemetry is not None:
        fate = fate_of(answered.fill, answer.threshold, completion.objections, offered=offered > 0)
        asking = _asking(completion, answered.source, answered.fill.engine)
        session.telemetry.asked(answered_row(asking, answered, *fate))


def _note(session: Session, completion: Completion, fate: Fate, reason: str = "") -> None:
    """A row for a request that ends without a fill."""
    if session.telemetry is not None and session.engine is not None:
        asking = _asking(completion, source_of(session, session.engine, ""), "")
        session.telemetry.asked(ended_row(asking, fate, reason))


def _asking(completion: Completion, source: Source, engine: str) -> Asking:
    """The request as its row has it."""
    setup = setup_of(completion, source, engine)
    return Asking(setup=setup, began=completion.began, context_ms=completion.context_ms)


def _held_back(session: Session, completion: Completion) -> str | None:
    """Why no engine is asked about a gap; None where one may be."""
    if asks_about_a_key(completion.hole):
        session.log_once(f"nothing is offered: {KEY_NEAR}")
        return KEY_NEAR
    return NOTHING_FITS if nothing_fits(completion.hole) else None


async def _answers(session: Session, engine: Router, completion: Completion) -> tuple[Answer, Answer] | None:
    """The first answer, and the one to go by; None when out of date, and where the engine failed."""
    try:
        if (fill := await _fill(session, engine, completion)) is not None:
            first = _answer(session, engine, completion, fill)
            if (answer := await _in_its_place(session, engine, completion, first)) is not None:
                return first, answer
    except EngineFailed as error:
        _note(session, completion, "failed", type(error.__cause__).__name__)
        return None
    except asyncio.CancelledError:
        _note(session, completion, "cancelled")
        raise
    _note(session, completion, "superseded")
    return None


def _answer(session: Session, engine: Router, completion: Completion, fill: Fill) -> Answer:
    """A fill, judged by what the settings and the place want."""
    document, place = session.documents.get(completion.uri), completion.trial.start
    assert document is not None  # else the request were out of date
    came = time.perf_counter()
    threshold = threshold_of(session, engine, completion.hole.language, fill.engine)
    threshold = session.suggestions.wary(threshold, document, place)
    return Answer(
        judged=judge(completion, fill, threshold, session.files),
        threshold=threshold,
        checkpoint=engine.about_of(fill.engine).checkpoint,
        record=engine.last_for(completion.uri),
        at=came,
    )


async def _in_its_place(session: Session, engine: Router, completion: Completion, first: Answer) -> Answer | None:
    """An answer, or what takes its place where validators object to all that would be shown; None when out of date."""
    verdict, record = first.judged.verdict, first.record
    if not verdict.objected or record is None or verdict.sure[:1] == (next(iter(first.judged.wanted)),):
        return first
    answer, remedy = first, NEXT if verdict.sure else NOTHING
    best = behind_selected(completion, *verdict.objected[0])
    ways: Iterable[Again] = () if verdict.sure else ways_out(engine, record, completion.hole, *best)
    for again in ways:
        left_s = session.settings.deadline_ms / 1000 - (time.perf_counter() - completion.began)
        # The engine would give up what somebody else has asked.
        if left_s < LEAST_S or session.requests.busy:
            break
        fill = await _ask_again(session, engine, completion, again, left_s)
        if fill is None:
            return None
        other = _answer(session, engine, completion, fill)
        if other.replaces:
            answer, remedy = other, again.remedy
            break
    engine.held_back(record, [one.kind for one in completion.objections], remedy)
    return answer


async def _ask_again(
    session: Session, engine: Router, completion: Completion, again: Again, left_s: float
) -> Fill | None:
    """The answer to one more request, empty if the engine failed; None when it went out of date."""
    first = _request(session, engine, completion)
    budget = replace(first.budget, candidates=CANDIDATES, deadline_s=left_s)
    request = replace(first, hole=again.hole, budget=budget, debounce_s=0.0, again=True)
    asked = engine.wishing(again.wish(session.wish(request.origin, completion.uri)))
    try:
        with session.engine_at_work():
            return await session.requests.ask(asked, request)
    except EngineFailed:
        return empty("empty")


def _route(session: Session, engine: Router, route: Record | None) -> Record | None:
    """How the router has come to an answer, told in the status as well; None where it had no choice."""
    if not engine.chooses and session.settings.engine == AUTO:
        return None
    if route is not None:
        session.note_answer(route)
    return route


def plan_ahead(session: Session, uri: str) -> None:
    """Have the gap behind a suggestion that has just been taken looked at soon."""
    if session.suggestions.taken(uri) is not None:
        session.requests.plan_ahead(uri, lambda: look_ahead(session, uri))


def look_ahead(session: Session, uri: str) -> None:
    """Ask for the gap behind a suggestion that has just been taken, before the client does."""
    engine, document, place = session.engine, session.documents.get(uri), session.suggestions.taken(uri)
    if engine is None or document is None or place is None:
        return
    if not _is_on(session, engine, document) or _is_quiet(session, document):
        return
    position = types.Position(place[0], document.character(place, session.encoding))
    context = types.InlineCompletionContext(AUTOMATIC)
    params = types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), position)
    spot = spot_of(document, params, session.encoding)
    if spot is not None and session.suggestions.recall(document, spot.start, spot.end) is None:
        completion = completion_at(document, spot, session.context.see, invoked=False)
        if not asks_about_a_key(completion.hole) and not nothing_fits(completion.hole):
            asked = session.asking(engine, "typing", document.uri)
            session.requests.look_ahead(asked, _request(session, engine, completion))


def _is_on(session: Session, engine: Router, document: Document) -> bool:
    """Whether anything may be offered in this document at all; the log says why not."""
    if not session.settings.enable:
        return False
    if not is_on(document.language_id, engine.about.languages, session.settings.languages):
        session.log_once(off_because(document.language_id, engine.about.checkpoint, engine.about.languages))
        return False
    reason = session.context.withheld(document, session.settings.exclude)
    if reason is not None:
        session.log_once(f"nothing is offered in a file, as no prompt may hold its text: {reason}")
    return reason is None


def _is_quiet(session: Session, document: Document) -> bool:
    """Whether the user wants nothing there unless it is asked for."""
    return session.settings.quiet or is_matched(document.uri, session.settings.disable)


def _item(session: Session, spot: Spot, offer: Offered) -> types.InlineCompletionItem:
    """An offer as an item; one that is made again, of what is left of it, keeps its id: it is the same suggestion."""
    session.offered.add(offer.id, units(offer.there, "utf-16"))
    text = lf(offer.text) if session.client_name in LF_CLIENTS else offer.text
    return item_of(offer.id, text, spot.range)


def threshold_of(session: Session, engine: Router, language: str, name: str = "") -> float:
    """The confidence below which nothing is shown by itself.

    It is an engine's own, unless the user has chosen one or has fitted that of the local checkpoint.
    """
    if session.settings.show_threshold is not None:
        return session.settings.show_threshold
    own, about = own_for(session.options.calibrations, session.digest, language), engine.about_of(name)
    is_local = about.checkpoint == engine.about_of("").checkpoint
    return about.show_threshold if own is None or not is_local else own.threshold


def _new(session: Session, found: Iterable[tuple[str, Offer]], known: Sequence[Offered]) -> list[Offered]:
    """What the engine says beside what is known already; each has its row from here on."""
    texts = {offer.text for offer in known}
    offers = []
    for text, row in found:
        if text not in texts:
            offers.append(Offered(id=row.id, text=text))
            if session.engine is not None:
                session.engine.offered(row.id, row.engine)
            if session.telemetry is not None:
                session.telemetry.offered(row)
    return offers


def _count_vetoes(session: Session, completion: Completion, answer: Answer) -> None:
    """A row for each text that a validator objected to, by kind, and by what came of the first answer for that."""
    if session.telemetry is not None:
        trigger = "invoked" if completion.invoked else "automatic"
        for objection in completion.objections:
            session.telemetry.vetoed(
                Veto(
                    reason=objection.kind,
                    language=completion.hole.language,
                    kind=completion.hole.kind,
                    trigger=trigger,
                    checkpoint=answer.checkpoint,
                    remedy=answer.remedy or "",
                )
            )


def _request(session: Session, engine: Router, completion: Completion) -> Request:
    """What the engine is asked: several fills for a person, one sure fill for an editor that asks by itself."""
    settings, invoked = session.settings, completion.invoked
    budget = Budget(
        steps=settings.steps,
        candidates=CANDIDATES_WHEN_INVOKED if invoked else 1,
        deadline_s=settings.deadline_ms / 1000,
        min_confidence=0.0 if invoked else threshold_of(session, engine, completion.hole.language),
    )
    return Request(
        uri=completion.uri,
        hole=completion.hole,
        budget=budget,
        origin="invoked" if invoked else "typing",
        debounce_s=0.0 if invoked else settings.debounce_ms / 1000,
    )


async def _fill(session: Session, engine: Router, completion: Completion) -> Fill | None:
    """The engine's fill; None when the request went out of date. Raises EngineFailed, of which the user is told."""
    loop = asyncio.get_running_loop()
    preview = Preview(session.protocol.notify, completion) if session.settings.preview else None

    def on_frame(frame: Frame) -> None:
        if preview is not None:
            loop.call_soon_threadsafe(preview.show, frame)

    request = _request(session, engine, completion)
    asked = session.asking(engine, "invoked" if completion.invoked else "typing", completion.uri)
    try:
        with session.engine_at_work():
            fill = await session.requests.ask(asked, request, on_frame if preview else None)
    finally:
        if preview is not None:
            preview.end()
    return None if fill is None or fill.stopped == "cancelled" else fill
