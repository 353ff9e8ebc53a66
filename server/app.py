"""The language server's handlers, in protocol order. Slow work is never in them; state is the session's."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from lsprotocol import types

import midspan.engine
from midspan.server.client_events import DIAGNOSTICS, accepted, diagnosed, partially_accepted, shown
from midspan.server.code_actions import register_code_actions
from midspan.server.completion import DID_ACCEPT
from midspan.server.inline_completion import items_for, plan_ahead
from midspan.server.lifecycle import begin, follow_change, follow_files, follow_folders, follow_watched, watch_rules
from midspan.server.lsp.logs import log_to
from midspan.server.lsp.stdio import take_stdio
from midspan.server.session import Load, Session
from midspan.server.settings import ServeOptions
from midspan.server.text.line_index import Range
from midspan.server.text.syntax_check import load_with_syntax
from midspan.server.why import register_questions

# The engine's thread may keep the interpreter from the event loop this long; Python's own 5 ms are felt in an answer.
SWITCH_S = 0.0005
INTERRUPTED = 130  # as the command line ends
FILES = types.FileOperationRegistrationOptions([types.FileOperationFilter(types.FileOperationPattern("**"), "file")])
# Not an empty object: read into a property list, as Emacs's lsp-mode can do, that is the same as null.
INLINE = types.InlineCompletionOptions(work_done_progress=False)


def serve(options: ServeOptions, load: Load = load_with_syntax) -> int:
    """Serve LSP over standard input and output until the client says `exit`; returns the process's exit code.

    Raises OSError when the log file cannot be written.
    """
    midspan.engine.prepare()
    session = build(options, load)
    log_to(options.log_file, lambda message: session.degrade_from_thread("log", message), debug=options.debug)
    sys.setswitchinterval(SWITCH_S)
    stdin, stdout = take_stdio()
    try:
        code = asyncio.run(session.run(stdin, stdout))
    except KeyboardInterrupt:
        code = INTERRUPTED
    if session.stuck:
        # The interpreter cannot end while a thread is inside torch's import: it aborts. Nor while an engine hangs.
        logging.shutdown()
        os._exit(code)
    return code


def build(options: ServeOptions, load: Load = load_with_syntax) -> Session:
    """A session with all its handlers; nothing is loaded before the client has sent `initialized`."""
    session = Session(options, load)
    feature = session.feature
    feature(types.INITIALIZE)(initialize)
    feature(types.INITIALIZED)(initialized)
    feature(types.TEXT_DOCUMENT_DID_OPEN)(did_open)
    feature(types.TEXT_DOCUMENT_DID_CHANGE)(did_change)
    feature(types.TEXT_DOCUMENT_DID_SAVE)(did_save)
    feature(types.TEXT_DOCUMENT_DID_CLOSE)(did_close)
    feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, INLINE)(inline_completion)
    feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)(did_change_configuration)
    feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)(did_change_workspace_folders)
    feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)(did_change_watched_files)
    feature(types.WORKSPACE_DID_CREATE_FILES, FILES)(did_create_files)
    feature(types.WORKSPACE_DID_RENAME_FILES, FILES)(did_rename_files)
    feature(types.WORKSPACE_DID_DELETE_FILES, FILES)(did_delete_files)
    feature(DIAGNOSTICS)(did_diagnose)
    feature("textDocument/didShowCompletion")(did_show)
    feature("textDocument/didPartiallyAcceptCompletion")(did_partially_accept)
    session.command(DID_ACCEPT)(did_accept)
    register_code_actions(session)
    register_questions(session)
    return session


def initialize(session: Session, params: types.InitializeParams) -> None:
    """Read the settings; the engine waits for `initialized`, so that this is answered at once."""
    session.introduce(params)


async def initialized(session: Session, _: types.InitializedParams) -> None:
    """Begin, with what the settings say."""
    session.protocol.warm()
    watch_rules(session)
    await begin(session)


async def did_change_configuration(session: Session, params: types.DidChangeConfigurationParams) -> None:
    """Lay new settings over the first ones."""
    await follow_change(session, params.settings)


async def did_change_workspace_folders(session: Session, params: types.DidChangeWorkspaceFoldersParams) -> None:
    """Take the files of opened folders into the prompts, and those of closed ones out."""
    session.change_folders(params.event.removed)
    await follow_folders(session)


def did_change_watched_files(session: Session, params: types.DidChangeWatchedFilesParams) -> None:
    """Forget what is gone from disk at once, and read what has come or changed soon."""
    follow_watched(session, params.changes)


def did_create_files(session: Session, params: types.CreateFilesParams) -> None:
    """Read files that were made in the editor."""
    follow_files(session, [file.uri for file in params.files])


def did_rename_files(session: Session, params: types.RenameFilesParams) -> None:
    """Forget the files' old names, and read them under the new ones."""
    follow_files(session, [file.new_uri for file in params.files], [file.old_uri for file in params.files])


def did_delete_files(session: Session, params: types.DeleteFilesParams) -> None:
    """Forget files that were deleted in the editor."""
    follow_files(session, [], [file.uri for file in params.files])


def did_open(session: Session, params: types.DidOpenTextDocumentParams) -> None:
    """Take the client's text of a document."""
    session.open(params.text_document)


def did_change(session: Session, params: types.DidChangeTextDocumentParams) -> None:
    """Apply a document's edits, in the order in which they come."""
    uri = params.text_document.uri
    changes = [(_span(change), change.text) for change in params.content_changes]
    session.change(uri, params.text_document.version, changes)
    plan_ahead(session, uri)


def did_save(session: Session, params: types.DidSaveTextDocumentParams) -> None:
    """Apply git's rules at once where the saved document holds them."""
    follow_files(session, [params.text_document.uri])


def did_close(session: Session, params: types.DidCloseTextDocumentParams) -> None:
    """Forget the document."""
    session.close(params.text_document.uri)


def _span(change: types.TextDocumentContentChangeEvent) -> Range | None:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return None
    start, end = change.range.start, change.range.end
    return (start.line, start.character), (end.line, end.character)


async def inline_completion(
    session: Session, params: types.InlineCompletionParams
) -> list[types.InlineCompletionItem] | None:
    """Null before the engine is loaded, for what it does not know, and when a newer request came; else a list."""
    return await items_for(session, params)


def did_diagnose(session: Session, params: object) -> None:
    """Keep what the editor's other servers find wrong in a document."""
    diagnosed(session, params)


def did_show(session: Session, params: object) -> None:
    """Record that the client has shown an item."""
    shown(session, params)


def did_partially_accept(session: Session, params: object) -> None:
    """Record that the user has taken the first part of an item."""
    partially_accepted(session, params)


async def did_accept(session: Session, id: str = "") -> None:
    """Record that the user has taken an item; clients run this as the item's command."""
    await accepted(session, id)
