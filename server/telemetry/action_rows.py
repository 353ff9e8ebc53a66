"""The rows of a code action that a client resolves: of its request, and of each edit that is made of the fill.

Its `trigger` is ACTION, its `kind` what the action is called. Whether an edit is applied the edits tell (applied.py).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from midspan.engine.api import Fill
from midspan.server.inline_completion import source_of
from midspan.server.router.router import Router
from midspan.server.session import Session
from midspan.server.telemetry.events import ACTION, Fate, Offer, Setup
from midspan.server.telemetry.fates import Answered, Asking, answered_row, ended_row, fate_of
from midspan.server.text.documents import Document
from midspan.server.text.line_index import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A fill for one selection, its texts with how sure each is, and the ids of those that are no edit yet.

    `at` is when it came, by `time.perf_counter`.
    """

    fill: Fill
    at: float
    texts: Mapping[str, float]
    ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRows:
    """Writes them for one action of a name in a document, where telemetry is on.

    It began at a time by `time.perf_counter`, and collecting other text took `context_ms`.
    """

    session: Session
    document: Document
    name: str
    began: float
    context_ms: float

    def ended(self, fate: Fate, reason: str = "") -> None:
        """It ends without a fill."""
        session = self.session
        if session.telemetry is not None and session.engine is not None:
            session.telemetry.asked(ended_row(self._asking(session.engine, ""), fate, reason))

    def filled(self, made: Made) -> None:
        """A fill has come for it. The other alternatives of the same fill are no requests of their own."""
        session = self.session
        if session.telemetry is not None and session.engine is not None:
            made.ids.update({text: uuid.uuid4().hex for text in made.texts})
            source = source_of(session, session.engine, made.fill.engine)
            answered = Answered(fill=made.fill, source=source, at=made.at, id=next(iter(made.ids.values()), None))
            fate = fate_of(made.fill, 0.0, (), offered=bool(made.texts))
            session.telemetry.asked(answered_row(self._asking(session.engine, made.fill.engine), answered, *fate))

    def edited(self, made: Made, text: str, span: tuple[Place, Place], whole: str) -> None:
        """An edit by a text of the fill puts `whole` in place of a span; it is one offer, however often resolved."""
        session, engine, id = self.session, self.session.engine, made.ids.pop(text, None)
        if session.telemetry is None or engine is None or id is None:
            return
        record = engine.last_for(self.document.uri) if engine.chooses else None
        session.telemetry.offered(
            Offer(
                **msgspec.structs.asdict(self._asking(engine, made.fill.engine).setup),
                id=id,
                uri=self.document.uri,
                confidence=made.texts[text],
                chars=len(whole),
                lines=whole.count("\n") + 1,
                latency_ms=1000 * (time.perf_counter() - self.began),
                engine_ms=made.fill.latency.total,
                steps=made.fill.steps,
                route="" if record is None else record.choice.reason,
            )
        )
        session.aftermath.action(self.document, id, span, whole)

    def _asking(self, engine: Router, name: str) -> Asking:
        source = source_of(self.session, engine, name)
        setup = Setup(
            language=self.document.language_id,
            kind=self.name,
            trigger=ACTION,
            checkpoint=source.checkpoint,
            client=source.client,
            digest=source.digest,
            engine=name,
            layout=source.layout,
            device=source.device,
        )
        return Asking(setup=setup, began=self.began, context_ms=self.context_ms)
