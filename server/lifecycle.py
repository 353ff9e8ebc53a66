"""What a session does as settings, folders and git's rules change: telemetry, the engine, the index."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path, PurePath

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from midspan.server.engine_errors import failed_load
from midspan.server.lsp.progress import Progress, bytes_read
from midspan.server.session import Session
from midspan.server.settings import section_of
from midspan.server.text.languages import TABLE, is_on
from midspan.server.text.uris import key_of, path_of_key
from midspan.server.workspace.git_ignore import RULES, is_rules
from midspan.server.workspace.walk import globs_of

log = logging.getLogger(__name__)

SECTION = "midspan"
WATCHED = "midspan-rules"
# The model waits this long for a client's settings, as the answer may be not to load it; the answer may never come.
ANSWER_S = 0.5


async def begin(session: Session) -> None:
    """Begin with the `initializationOptions`, and with what the client says when it is asked."""
    if session.first.problem is not None:
        log.error("initializationOptions cannot all be used; the editor shows which")
        session.degrade("options", session.first.problem)
    if session.misconfigured is not None:
        log.error("an engine is not configured as it must be; the editor shows how")
        session.degrade("backends", session.misconfigured)
    if session.options.uncalibrated is not None:
        session.degrade("calibration", session.options.uncalibrated)
    _subscribe(session)
    if not _can_be_asked(session):
        await follow_settings(session)
        return
    asking = asyncio.create_task(_ask(session))
    await asyncio.wait((asking,), timeout=ANSWER_S)
    if asking.done():
        await asking
        await follow_settings(session)
    else:
        await asyncio.gather(follow_settings(session), _follow_late(session, asking))


async def follow_change(session: Session, configuration: object) -> None:
    """Settings have changed; a client that sends none of ours is asked for them, where it can be."""
    session.hear_of_settings()
    section = section_of(configuration)
    if section is not None:
        session.use_settings(section, types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    elif _can_be_asked(session):
        await _ask(session)
    else:
        return
    await follow_settings(session)


async def follow_settings(session: Session) -> None:
    """Open or close the telemetry, load the engine or stop its work, as the settings say."""
    settings = session.settings
    session.status.follow(enabled=settings.enable, wanted=settings.status)
    if not settings.enable:
        session.requests.supersede_all()
        await session.context.close()
        return
    await session.use_telemetry(wanted=settings.telemetry)
    if session.engine is None and session.elsewhere is None and not session.loading:
        await _load(session)
    await follow_folders(session)


async def follow_folders(session: Session) -> None:
    """Index the folders that are open now, once there is an engine and unless midspan is switched off."""
    # Loading takes a while: the settings may be others by now.
    if session.engine is not None and session.settings.enable:
        about, settings = session.engine.about, session.settings
        known = [one.name for one in TABLE if is_on(one.name, about.languages, settings.languages)]
        lines = known if about.reads_other_lines else ()
        watch_files(session, lines, definitions=about.context_tokens > 0)
        await session.context.follow(about.context_tokens, lines, roots_of(session), settings.exclude)


def watch_rules(session: Session) -> None:
    """Have the client tell when a file with git's ignore rules changes, where it can."""
    if _can_watch(session):
        files = [types.FileSystemWatcher(glob_pattern=f"**/{name}") for name in (*RULES, ".git/info/exclude")]
        options = types.DidChangeWatchedFilesRegistrationOptions(watchers=files)
        method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
        session.client_register_capability(
            types.RegistrationParams([types.Registration(id=WATCHED, method=method, register_options=options)])
        )


def follow_files(session: Session, changed: Sequence[str], gone: Sequence[str] = ()) -> None:
    """Follow files that were saved, came, changed or went on disk; git's rules among them are read again."""
    session.context.changed_on_disk(changed, gone)
    if any(is_rules(PurePath(key_of(uri))) for uri in (*changed, *gone)):
        session.context.rules_changed()


def follow_watched(session: Session, events: Sequence[types.FileEvent]) -> None:
    """Follow what the client has seen on disk. The last event of a file counts, and what is there is looked at."""
    last = {event.uri: event.type for event in events}
    gone = [uri for uri, kind in last.items() if kind == types.FileChangeType.Deleted]
    follow_files(session, [uri for uri in last if uri not in gone], gone)


def watch_files(session: Session, lines: Sequence[str], *, definitions: bool) -> None:
    """Have the client tell when a file changes that is read for other ones, where it can."""
    if _can_watch(session):
        session.watch(globs_of(lines, definitions=definitions))


def roots_of(session: Session) -> list[Path]:
    """The local folders that the client has opened."""
    uris = dict.fromkeys(filter(None, (session.lone_root, *session.workspace.folders)))
    paths = (path_of_key(key_of(uri)) for uri in uris if uri[:5].lower() == "file:")
    return [Path(path) for path in paths if path is not None and os.path.isdir(path)]


async def _load(session: Session) -> None:
    progress = Progress(session, "midspan: loading the model")
    session.status.loading(f"loading {session.options.checkpoint}")
    try:
        engine = await session.load(bytes_read(progress, asyncio.get_running_loop()))
    except Exception as error:  # atop a handler
        message = failed_load(error)
        log.error("%s", message, exc_info=None if message == str(error) else error)
        progress.end("failed")
        if session.configured.backends:
            session.use_elsewhere(message, partial(_follow_engines, session))
        else:
            session.status.error(message)
            session.say_once(message)
    else:
        # What torch has left in memory stays; going through it again would halt typing for tens of milliseconds.
        gc.freeze()
        session.use_engine(engine, partial(_follow_engines, session))
        progress.end("ready")


def _follow_engines(session: Session) -> None:
    """An engine elsewhere has come or gone: what it reads and knows is another's."""
    following = asyncio.get_running_loop().create_task(follow_folders(session))
    session.following.add(following)
    following.add_done_callback(session.following.discard)


async def _follow_late(session: Session, asking: asyncio.Task[None]) -> None:
    await asking
    await follow_settings(session)


async def _ask(session: Session) -> None:
    """Use the settings that the client answers; an error, or newer settings by then, change nothing."""
    news = session.settings_news
    ours = types.ConfigurationParams([types.ConfigurationItem(section=SECTION)])
    try:
        sections = await session.workspace_configuration_async(ours)
    except JsonRpcException as error:
        # Its message could quote anything.
        log.warning("the client did not say what its settings are: error %d", error.code)
        return
    if session.settings_news == news:
        session.use_settings(sections[0] if sections else None, types.WORKSPACE_CONFIGURATION)


def _can_be_asked(session: Session) -> bool:
    workspace = session.client_capabilities.workspace
    return workspace is not None and workspace.configuration is True


def _can_watch(session: Session) -> bool:
    workspace = session.client_capabilities.workspace
    watched = None if workspace is None else workspace.did_change_watched_files
    return watched is not None and watched.dynamic_registration is True


def _subscribe(session: Session) -> None:
    """Have the client tell of changed settings, where it does so only for servers that ask for it."""
    workspace = session.client_capabilities.workspace
    told = None if workspace is None else workspace.did_change_configuration
    if told is not None and told.dynamic_registration is True:
        options = types.DidChangeConfigurationRegistrationOptions(section=SECTION)
        change = types.Registration(str(uuid.uuid4()), types.WORKSPACE_DID_CHANGE_CONFIGURATION, options)
        session.client_register_capability(types.RegistrationParams([change])).add_done_callback(_note_refusal)


def _note_refusal(registering: Future[None]) -> None:
    if not registering.cancelled() and registering.exception() is not None:
        log.warning("the client does not tell of changed settings")
