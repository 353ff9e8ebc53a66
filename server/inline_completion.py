"""Inline completion: out of memory where what was typed runs along an earlier suggestion, else out of the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsprotocol import types

from midspan.engine.api import Budget, Fill, Frame
from midspan.server.completion import Question, Spot, answer, item_of, question, spot_of
from midspan.server.engine_errors import EngineFailed, engine_at_work
from midspan.server.lsp.preview import Preview
from midspan.server.requests import Engine, Origin
from midspan.server.suggestions import Offered
from midspan.server.text.documents import Document, units
from midspan.server.text.hole import lf
from midspan.server.text.languages import is_on, off_because
from midspan.server.workspace.exclusion import KEY_NEAR, asks_about_a_key, is_matched
from midspan.server.workspace.kept_out import kept_out_because

if TYPE_CHECKING:
    from midspan.server.app import Server

CANDIDATES_WHEN_INVOKED = 3
# Neovim splits an item at LF and ends its lines as the file does: a CR of ours would stand in the buffer.
LF_CLIENTS = frozenset(("Neovim",))
AUTOMATIC = types.InlineCompletionTriggerKind.Automatic


async def items_for(server: Server, params: types.InlineCompletionParams) -> list[types.InlineCompletionItem] | None:
    """What to offer; None before the engine is loaded, for what it does not know, and when a newer request came."""
    engine, document = server.engine, server.documents.get(params.text_document.uri)
    if engine is None or document is None or not _is_on(server, engine, document):
        return None
    invoked = server.trigger_kinds.is_invoked(params.context.trigger_kind)
    if not invoked and _is_quiet(server, document):
        return []
    spot = spot_of(document, params, server.encoding)
    if spot is None:
        return None
    known = server.suggestions.recall(document, spot.start, spot.end, spot.selected)
    again = () if known is None else known.offers if invoked else known.offers[:1]
    if known is not None and (known.complete or not invoked):
        # An older question about another place of the document is out of date.
        server.asks.supersede(document.uri)
        return [_item(server, spot, offer) for offer in again]
    asked = question(document, spot, server.context.see, invoked=invoked)
    if asks_about_a_key(asked.hole):
        server.asks.supersede(document.uri)
        server.log_once(f"nothing is offered: {KEY_NEAR}")
        return []
    fill = await _fill(server, engine, asked)
    if fill is None or fill.stopped == "cancelled":
        return None
    threshold = server.suggestions.wary(_threshold(server, engine), document, spot.start)
    offers = [*again, *_new(server, engine, asked, fill, again, threshold)]
    if offers or fill.stopped != "deadline":
        server.suggestions.remember(document, spot.start, spot.end, offers, invoked=invoked)
    # An empty list takes old ghost text away; Neovim lets it stand after null.
    return [_item(server, spot, offer) for offer in offers]


def plan_ahead(server: Server, uri: str) -> None:
    """Have the gap behind a suggestion that has just been taken looked at soon."""
    if server.suggestions.taken(uri) is not None:
        server.asks.plan_ahead(uri, lambda: look_ahead(server, uri))


def look_ahead(server: Server, uri: str) -> None:
    """Ask for the gap behind a suggestion that has just been taken, before the client does."""
    engine, document, place = server.engine, server.documents.get(uri), server.suggestions.taken(uri)
    if engine is None or document is None or place is None:
        return
    if not _is_on(server, engine, document) or _is_quiet(server, document):
        return
    position = types.Position(place[0], document.character(place, server.encoding))
    context = types.InlineCompletionContext(AUTOMATIC)
    params = types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), position)
    spot = spot_of(document, params, server.encoding)
    if spot is not None and server.suggestions.recall(document, spot.start, spot.end) is None:
        asked = question(document, spot, server.context.see, invoked=False)
        if not asks_about_a_key(asked.hole):
            server.asks.look_ahead(uri, engine, asked.hole, _budget(server, engine, asked))


def _is_on(server: Server, engine: Engine, document: Document) -> bool:
    """Whether anything may be offered in this document at all; the log says why not."""
    if not server.settings.enable:
        return False
    if not is_on(document.language_id, engine.about.languages, server.settings.languages):
        server.log_once(off_because(document.language_id, engine.about.checkpoint, engine.about.languages))
        return False
    reason = kept_out_because(document.uri, server.settings.exclude)
    if reason is not None:
        server.log_once(f"nothing is offered in a file, as no prompt may hold its text: {reason}")
    return reason is None


def _is_quiet(server: Server, document: Document) -> bool:
    """Whether the user wants nothing there unless it is asked for explicitly."""
    return server.settings.quiet or is_matched(document.uri, server.settings.disable)


def _item(server: Server, spot: Spot, offer: Offered) -> types.InlineCompletionItem:
    """An offer as an item; one that is made again, of what is left of it, keeps its id: it is the same suggestion."""
    server.offered.add(offer.id, units(offer.there, "utf-16"))
    text = lf(offer.text) if server.client_name in LF_CLIENTS else offer.text
    return item_of(offer.id, text, spot.range)


def _threshold(server: Server, engine: Engine) -> float:
    """The confidence below which nothing is shown by itself."""
    chosen = server.settings.show_threshold
    return engine.about.show_threshold if chosen is None else chosen


def _new(
    server: Server, engine: Engine, asked: Question, fill: Fill, known: Sequence[Offered], threshold: float
) -> list[Offered]:
    """What the engine says, but for what is known already; each has its row from here on."""
    texts = {offer.text for offer in known}
    offers = []
    for text, row in answer(asked, fill, threshold, engine.about.checkpoint):
        if text not in texts:
            offers.append(Offered(id=row.id, text=text))
            if server.telemetry is not None:
                server.telemetry.offered(row)
    return offers


def _budget(server: Server, engine: Engine, asked: Question) -> Budget:
    settings = server.settings
    return Budget(
        steps=settings.steps,
        candidates=CANDIDATES_WHEN_INVOKED if asked.invoked else 1,
        deadline_s=settings.deadline_ms / 1000,
        least=0.0 if asked.invoked else _threshold(server, engine),
    )


async def _fill(server: Server, engine: Engine, asked: Question) -> Fill | None:
    """The engine's fill; None when the question went out of date or the engine failed, which the user is told."""
    budget, debounce_s = _budget(server, engine, asked), 0.0 if asked.invoked else server.settings.debounce_ms / 1000
    origin: Origin = "invoked" if asked.invoked else "typing"
    loop = asyncio.get_running_loop()
    preview = Preview(server.protocol.notify, asked) if server.settings.preview else None

    def on_frame(frame: Frame) -> None:
        if preview is not None:
            loop.call_soon_threadsafe(preview.show, frame)

    watch = on_frame if preview else None
    try:
        with engine_at_work(server):
            return await server.asks.ask(
                asked.uri, engine, asked.hole, budget, watch, origin=origin, debounce_s=debounce_s
            )
    except EngineFailed:
        return None
    finally:
        if preview is not None:
            preview.end()
