"""What the settings, open folders and git's rules ask for: telemetry opened or closed, the model loaded, folders looked
through, work stopped."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from lsprotocol import types

from midspan.server.engine_errors import failed_load
from midspan.server.lsp.progress import Progress, bytes_read
from midspan.server.telemetry import Telemetry
from midspan.server.text.languages import TABLE, is_on
from midspan.server.workspace.ignored import RULES, is_rules
from midspan.server.workspace.index import key_of

if TYPE_CHECKING:
    from midspan.server.app import Server

log = logging.getLogger(__name__)

WATCHED = "midspan-rules"


async def follow_settings(server: Server) -> None:
    """Open or close the telemetry, load the engine or stop its work."""
    settings = server.settings
    server.status.follow(enabled=settings.enable, wanted=settings.status)
    if not settings.enable:
        server.asks.supersede_all()
        await server.context.close()
        return
    if settings.telemetry and server.telemetry is None:
        server.telemetry = Telemetry(
            server.options.state_dir, lambda message: server.degrade_from_thread("telemetry", message)
        )
    elif not settings.telemetry and server.telemetry is not None:
        closing, server.telemetry = server.telemetry, None
        server.status.well("telemetry")
        await asyncio.to_thread(closing.close)
    if server.engine is None and not server.loading:
        await _load(server)
    await follow_folders(server)


async def follow_folders(server: Server) -> None:
    """Have the folders that are open now looked through, once there is an engine and unless all is switched off."""
    # Loading takes a while: the settings may be others by now.
    if server.engine is not None and server.settings.enable:
        about, settings = server.engine.about, server.settings
        known = [one.name for one in TABLE if is_on(one.name, about.languages, settings.languages)]
        lines = known if about.elsewhere else ()
        await server.context.follow(about.context_tokens, lines, roots_of(server), settings.exclude)


def watch_rules(server: Server) -> None:
    """Have the client tell when a file changes that says what git ignores, where it can."""
    workspace = server.client_capabilities.workspace
    watched = None if workspace is None else workspace.did_change_watched_files
    if watched is not None and watched.dynamic_registration:
        files = [types.FileSystemWatcher(glob_pattern=f"**/{name}") for name in (*RULES, ".git/info/exclude")]
        options = types.DidChangeWatchedFilesRegistrationOptions(watchers=files)
        method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
        server.client_register_capability(
            types.RegistrationParams([types.Registration(id=WATCHED, method=method, register_options=options)])
        )


def follow_rules(server: Server, uris: Iterable[str]) -> None:
    """Files were saved or have changed: where git's rules are among them, they are read again."""
    if any(is_rules(PurePath(key_of(uri))) for uri in uris):
        server.context.rules_changed()


def roots_of(server: Server) -> list[Path]:
    """The folders that the client has opened; those that are no local folders are left out."""
    uris = list(server.workspace.folders)
    if not uris and not server.folders_changed:
        # A client without workspace folders, or with none yet.
        uris = [server.workspace.root_uri or ""]
    return [Path(key_of(uri)) for uri in uris if uri.startswith("file:") and Path(key_of(uri)).is_dir()]


async def _load(server: Server) -> None:
    progress = Progress(server, "midspan: loading the model")
    server.status.loading(f"loading {server.options.checkpoint}")
    try:
        engine = await server.load(bytes_read(progress, asyncio.get_running_loop()))
    except Exception as error:  # atop a handler
        message = failed_load(error)
        log.error("%s", message, exc_info=None if message == str(error) else error)
        progress.end("failed")
        server.status.error(message)
        server.say_once(message)
    else:
        # What torch has left in memory stays; going through it again would halt typing for tens of milliseconds.
        gc.freeze()
        server.engine = engine
        progress.end("ready")
        about = engine.about
        server.status.ready(f"{about.checkpoint} on {about.device}, trained on {', '.join(about.languages)}")
