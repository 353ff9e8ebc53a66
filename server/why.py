"""The commands that an editor asks midspan about itself: in which languages it is on, and why it shows nothing here."""

from __future__ import annotations

from midspan.server.calibration.own import own_for
from midspan.server.session import Session
from midspan.server.text.languages import is_on, off_because
from midspan.server.workspace.exclusion import is_matched

WHY = "midspan.why"
LANGUAGES_ON = "midspan.languagesOn"
NOT_OPEN = "midspan does not follow this file; open it from disk, in a language that midspan has a grammar of"


def register_questions(session: Session) -> None:
    """Answer both commands."""

    async def languages_on(languages: list[str]) -> list[str]:
        """Which of these LSP language ids are on; none before the engine is loaded."""
        engine, settings = session.engine, session.settings
        if engine is None or not settings.enable:
            return []
        return [one for one in languages if is_on(one, engine.about.languages, settings.languages)]

    async def why(uri: str) -> list[str]:
        """Why nothing is shown in the document of this URI, a line each."""
        return reasons(session, uri)

    session.command(LANGUAGES_ON)(languages_on)
    session.command(WHY)(why)


def reasons(session: Session, uri: str) -> list[str]:
    """What keeps suggestions from this document, the last decision if nothing does; a line each, with the fix."""
    engine, document, settings = session.engine, session.documents.get(uri), session.settings
    if not settings.enable:
        return ["midspan is switched off by the setting `enable`"]
    if engine is None:
        now = session.status.now()
        return [now[1] if now is not None else "the server has not begun yet"]
    if document is None:
        return [NOT_OPEN]
    if not is_on(document.language_id, engine.about.languages, settings.languages):
        return [off_because(document.language_id, engine.about.checkpoint, engine.about.languages)]
    excluded = session.context.withheld(document, settings.exclude)
    if excluded is not None:
        return [f"no prompt may hold this file's text: {excluded}"]
    found = []
    if settings.quiet:
        found.append("the setting `quiet` is on: a suggestion comes only when it is asked for")
    if is_matched(uri, settings.disable):
        found.append("the setting `disable` names this file: a suggestion comes only when it is asked for")
    own = own_for(session.options.calibrations, session.digest, document.language_id)
    if own is not None and settings.show_threshold is None:
        found.append(f"show_threshold is {own.words}; midspan calibrate --undo goes back")
    return [*found, *engine.troubles(), session.decisions.last(uri)]
