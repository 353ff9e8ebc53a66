"""Settings as the client tells them: with the start, when they change, and when it is asked for them."""

from __future__ import annotations

import asyncio
import logging
import uuid
from concurrent.futures import Future
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from midspan.server.settings import changed_settings, section_of
from midspan.server.upkeep import follow_settings

if TYPE_CHECKING:
    from midspan.server.app import Server

log = logging.getLogger(__name__)

SECTION = "midspan"
# So long the model waits for a client that has been asked, as the answer may be not to load it; it may never come.
ANSWER_S = 0.5


async def begin(server: Server) -> None:
    """Begin, with what the `initializationOptions` say, and what the client says when it is asked."""
    if server.first.problem is not None:
        log.error("%s", server.first.problem)
        server.degrade("options", server.first.problem)
    _subscribe(server)
    if not _can_be_asked(server):
        await follow_settings(server)
        return
    asking = asyncio.create_task(_ask(server))
    await asyncio.wait((asking,), timeout=ANSWER_S)
    if asking.done():
        await asking
        await follow_settings(server)
    else:
        await asyncio.gather(follow_settings(server), _follow_late(server, asking))


async def follow_change(server: Server, configuration: object) -> None:
    """Settings have changed; a client that sends none of ours is asked for them, where it can be."""
    server.news += 1
    section = section_of(configuration)
    if section is not None:
        _use(server, section, types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    elif _can_be_asked(server):
        await _ask(server)
    else:
        return
    await follow_settings(server)


async def _follow_late(server: Server, asking: asyncio.Task[None]) -> None:
    await asking
    await follow_settings(server)


async def _ask(server: Server) -> None:
    """Use what the client answers; nothing changes for an error, or where there is newer news by then."""
    news = server.news
    ours = types.ConfigurationParams([types.ConfigurationItem(section=SECTION)])
    try:
        sections = await server.workspace_configuration_async(ours)
    except JsonRpcException as error:
        # Its message could quote anything.
        log.warning("the client did not say what its settings are: error %d", error.code)
        return
    if server.news == news:
        _use(server, sections[0] if sections else None, types.WORKSPACE_CONFIGURATION)


def _use(server: Server, section: object, where: str) -> None:
    """Our section over the first options; what was suggested by other settings is forgotten."""
    reading = changed_settings(server.settings, server.first.options, section, where)
    server.settings = reading.settings
    if reading.problem is None:
        server.status.well("settings")
    else:
        log.error("%s", reading.problem)
        server.degrade("settings", reading.problem)
    server.suggestions.clear()


def _can_be_asked(server: Server) -> bool:
    workspace = server.client_capabilities.workspace
    return workspace is not None and workspace.configuration is True


def _subscribe(server: Server) -> None:
    """Have the client tell of changes, where it does so only for servers that ask for it."""
    workspace = server.client_capabilities.workspace
    told = None if workspace is None else workspace.did_change_configuration
    if told is not None and told.dynamic_registration is True:
        options = types.DidChangeConfigurationRegistrationOptions(section=SECTION)
        change = types.Registration(str(uuid.uuid4()), types.WORKSPACE_DID_CHANGE_CONFIGURATION, options)
        server.client_register_capability(types.RegistrationParams([change])).add_done_callback(_note_refusal)


def _note_refusal(registering: Future[None]) -> None:
    if not registering.cancelled() and registering.exception() is not None:
        log.warning("the client does not tell of changed settings")
