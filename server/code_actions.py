"""Code actions on a selection: what is offered, and the edit, computed when the client resolves an action."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams

from midspan.engine.api import Budget, Engine, Fill, Frame, Hole
from midspan.server.actions import ACTIONS, BY_NAME, QUICKFIX, SELECTION_CHARS, Action, Change, choices, is_too_long
from midspan.server.engine_errors import EngineFailed
from midspan.server.lsp.progress import Progress
from midspan.server.requests import Request
from midspan.server.session import Session
from midspan.server.telemetry.action_rows import ActionRows, Made
from midspan.server.text.documents import Document
from midspan.server.text.languages import is_on, language_of
from midspan.server.text.line_index import Place
from midspan.server.workspace.secrets_in_text import KEY_NEAR, asks_about_a_key

# The user has asked for it, sees its progress and can cancel it.
DEADLINE_S = 60.0
CANDIDATES = 3
MESSAGE_CHARS, TITLE_CHARS = 500, 60
REQUEST_FAILED = -32803
ORDINALS = ("", ", second choice", ", third choice")
AGAIN = "ask for code actions again"
NOT_OURS = "codeAction/resolve: the action's `data` is not midspan's; pass the action as it was offered"
CANNOT_RESOLVE = "no code actions: the editor cannot resolve their edits later (codeAction.resolveSupport, dataSupport)"
CANNOT_CONFIRM = (
    "confirm_rewrites: this editor cannot ask before an edit (workspaceEdit.changeAnnotationSupport, documentChanges); "
    "rewrites are applied at once"
)
FIXABLE = (None, types.DiagnosticSeverity.Error, types.DiagnosticSeverity.Warning)
Number = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class ActionData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a code action carries until it is resolved; `range` is in the client's encoding."""

    uri: str
    version: int
    action: str
    range: tuple[Number, Number, Number, Number]
    alternative: Annotated[int, msgspec.Meta(ge=0, lt=len(ORDINALS))] = 0
    message: str = ""


class Refused(JsonRpcException):
    """An action that does nothing; one line that says why, and what to do."""

    CODE = REQUEST_FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedAction:
    """An action that the client resolves, against the document as it is now."""

    data: ActionData
    document: Document
    engine: Engine
    change: Change
    hole: Hole
    rows: ActionRows


def register_code_actions(session: Session) -> None:
    """Offer code actions.

    The alternatives for one selection come from one fill, which is kept for them; those that are resolved while it is
    made wait for it together (requests.py).
    """
    last: dict[ActionData, Made] = {}

    def code_action(params: types.CodeActionParams) -> list[types.CodeAction]:
        return list(_offered(session, params))

    async def resolve(action: types.CodeAction) -> types.CodeAction:
        resolved = _resolved(session, action.data)
        key = msgspec.structs.replace(resolved.data, alternative=0)
        if key not in last:
            fill = await _fill(session, resolved)
            # Another alternative may have waited for the same fill.
            if key not in last:
                last.clear()
                came = time.perf_counter()
                last[key] = Made(fill=fill, at=came, texts=choices(resolved.change, fill, session.files))
                resolved.rows.filled(last[key])
        made, change = last[key], resolved.change
        text = _chosen(resolved, made)
        new_text = (change.before + text + change.after).replace("\n", resolved.document.line_end())
        action.edit = _edit(session, resolved, new_text)
        resolved.rows.edited(made, text, (change.start, change.end), new_text)
        return action

    kinds = [action.kind for action in ACTIONS]
    options = types.CodeActionOptions(code_action_kinds=kinds, resolve_provider=True)
    session.feature(types.TEXT_DOCUMENT_CODE_ACTION, options)(code_action)
    session.feature(types.CODE_ACTION_RESOLVE)(resolve)


def _offered(session: Session, params: types.CodeActionParams) -> Iterator[types.CodeAction]:
    """What can be done with the selection; nothing is computed yet."""
    engine, document = session.engine, session.documents.get(params.text_document.uri)
    if engine is None or document is None or _forbidden(session, engine, document) is not None:
        return
    text_document = session.client_capabilities.text_document
    client = None if text_document is None else text_document.code_action
    properties = () if client is None or client.resolve_support is None else client.resolve_support.properties
    if client is None or not client.code_action_literal_support or not client.data_support or "edit" not in properties:
        session.log_once(CANNOT_RESOLVE)
        return
    tags = client.tag_support
    tagged = tags is not None and types.CodeActionTag.LlmGenerated in tags.value_set
    for action in ACTIONS:
        if action.name in engine.about.actions and _wanted(action, params.context):
            for one in _at(session, action, document, params):
                one.tags = [types.CodeActionTag.LlmGenerated] if tagged else None
                if one.disabled is None or client.disabled_support:
                    yield one


def _wanted(action: Action, context: types.CodeActionContext) -> bool:
    """Whether the client asks for this kind; a light bulb that burns on every line would say nothing."""
    if context.only is not None:
        return any(only in ("", action.kind) or action.kind.startswith(f"{only}.") for only in context.only)
    return context.trigger_kind != types.CodeActionTriggerKind.Automatic or action.name not in ("finish", "docstring")


def _at(
    session: Session, action: Action, document: Document, params: types.CodeActionParams
) -> Iterator[types.CodeAction]:
    """The action at the selection; a quick fix at each of the errors there."""
    if action.kind != QUICKFIX:
        yield from _one(session, action, document, params.range)
        return
    for diagnostic in params.context.diagnostics:
        if diagnostic.severity in FIXABLE:
            for one in _one(session, action, document, diagnostic.range, _message(diagnostic)):
                one.diagnostics = [diagnostic]
                yield one


def _one(
    session: Session, action: Action, document: Document, range: types.Range, message: str = ""
) -> Iterator[types.CodeAction]:
    """The action at a range, once for each of its alternatives; disabled where the range is too long for it."""
    start, end = _span(session, document, _numbers(range))
    title = f"midspan: {action.title}"
    if message:
        title += ": " + message.partition("\n")[0][:TITLE_CHARS]
    change = action.plan(document, start, end)
    if change is not None and asks_about_a_key(change.hole):
        session.log_once(f"no code actions: {KEY_NEAR}")
        return
    if change is None:
        if action.selects and is_too_long(document, start, end):
            reason = types.CodeActionDisabled(f"select at most {SELECTION_CHARS} characters")
            yield types.CodeAction(title=title, kind=action.kind, disabled=reason)
        return
    for alternative, ordinal in enumerate(ORDINALS[: action.alternatives]):
        data = ActionData(document.uri, document.version, action.name, _numbers(range), alternative, message)
        yield types.CodeAction(title=title + ordinal, kind=action.kind, data=msgspec.to_builtins(data))


def _resolved(session: Session, raw: object) -> ResolvedAction:
    """What an action asks for. Raises Refused where it no longer applies, JsonRpcInvalidParams where it is not ours."""
    began = time.perf_counter()
    try:
        data = msgspec.convert(raw, ActionData)
    except msgspec.ValidationError:
        # What is wrong with it could quote a document, and errors are logged.
        raise JsonRpcInvalidParams(NOT_OURS) from None
    engine, document = session.engine, session.documents.get(data.uri)
    if document is None or document.version != data.version:
        raise Refused(f"midspan: the document has changed since the action was offered; {AGAIN}")
    if engine is None:
        raise Refused("midspan: the model is not loaded; wait for it, or run `midspan doctor`")
    if (reason := _forbidden(session, engine, document)) is not None:
        raise Refused(f"midspan: {reason}")
    action = BY_NAME.get(data.action)
    start, end = _span(session, document, data.range)
    change = action.plan(document, start, end) if action is not None else None
    if change is None or data.action not in engine.about.actions:
        raise JsonRpcInvalidParams(NOT_OURS)
    if asks_about_a_key(change.hole):
        raise Refused(f"midspan: {KEY_NEAR}; move it to a file of its own")
    looked = time.perf_counter()
    context = (*session.context.at(document, change.start, change.hole), *_as_comment(document, data.message))
    context_ms = 1000 * (time.perf_counter() - looked)
    rows = ActionRows(session=session, document=document, name=data.action, began=began, context_ms=context_ms)
    hole, asked = replace(change.hole, context=context), session.asking(engine, "action", document.uri)
    return ResolvedAction(data=data, document=document, engine=asked, change=change, hole=hole, rows=rows)


def _as_comment(document: Document, message: str) -> tuple[str, ...]:
    """What an error says, as it may stand in code; nothing for no message."""
    marks = language_of(document.language_id).line_comments
    return (" ".join([*marks[:1], *message.split()]),) if message else ()


def _forbidden(session: Session, engine: Engine, document: Document) -> str | None:
    """Why nothing may be written into a document; None where it may."""
    if not session.settings.enable:
        return "switched off by the setting `enable`"
    if (reason := session.context.withheld(document, session.settings.exclude)) is not None:
        return f"no prompt may hold this file's text: {reason}"
    if not is_on(document.language_id, engine.about.languages, session.settings.languages):
        return "the checkpoint does not know this language; the setting `languages` turns it on"
    return None


async def _fill(session: Session, action: ResolvedAction) -> Fill:
    """The engine's fill, shown as progress. Raises Refused where none came."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    progress = Progress(session, "midspan: rewriting", task.cancel)
    # Another version of the same text, as after an undo, gets another draw.
    budget = Budget(
        steps=session.settings.steps, candidates=CANDIDATES, deadline_s=DEADLINE_S, seed=action.document.version
    )
    request = Request(uri=action.document.uri, hole=action.hole, budget=budget, origin="action")

    def on_frame(frame: Frame) -> None:
        loop.call_soon_threadsafe(progress.report, f"step {frame.step} of {frame.steps}")

    try:
        with session.engine_at_work():
            fill = await session.requests.ask(action.engine, request, on_frame)
    except EngineFailed as error:
        action.rows.ended("failed", type(error.__cause__).__name__)
        raise Refused(f"midspan: {error}") from error
    except asyncio.CancelledError:
        action.rows.ended("cancelled")
        raise
    finally:
        progress.end("done")
    if fill is None or fill.stopped == "cancelled":
        action.rows.ended("superseded")
        raise Refused(f"midspan: the document changed or something newer was asked meanwhile; {AGAIN}")
    if fill.stopped == "deadline" and not fill.candidates:
        action.rows.ended("late")
        raise Refused(f"midspan: not done within {DEADLINE_S:.0f} s; select less")
    return fill


def _chosen(action: ResolvedAction, made: Made) -> str:
    """The text of the alternative that was asked for. Raises Refused where the model has none."""
    texts = list(made.texts)
    if action.data.alternative >= len(texts):
        nothing = "no further choice" if texts else "nothing better than what is there"
        raise Refused(f"midspan: the model has {nothing}; select more or less, or rewrite more of it")
    return texts[action.data.alternative]


def _edit(session: Session, action: ResolvedAction, new_text: str) -> types.WorkspaceEdit:
    """One edit of one document: one undo step. Of this version only, where the client can hold it to that.

    With the setting `confirm_rewrites` the client asks before one of several lines.
    """
    document, change = action.document, action.change
    start, end = (
        types.Position(place[0], document.character(place, session.encoding)) for place in (change.start, change.end)
    )
    edit = types.TextEdit(types.Range(start, end), new_text)
    workspace = session.client_capabilities.workspace
    client = None if workspace is None else workspace.workspace_edit
    asks = session.settings.confirm_rewrites and (start.line != end.line or "\n" in new_text)
    can_ask = client is not None and client.document_changes and client.change_annotation_support is not None
    if asks and not can_ask:
        session.log_once(CANNOT_CONFIRM)
    if client is None or not client.document_changes:
        return types.WorkspaceEdit(changes={document.uri: [edit]})
    identifier = types.OptionalVersionedTextDocumentIdentifier(uri=document.uri, version=document.version)
    if not asks or not can_ask:
        return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(identifier, [edit])])
    title = f"midspan: {BY_NAME[action.data.action].title}"
    annotated = types.AnnotatedTextEdit(annotation_id=title, range=edit.range, new_text=new_text)
    return types.WorkspaceEdit(
        document_changes=[types.TextDocumentEdit(identifier, [annotated])],
        change_annotations={title: types.ChangeAnnotation(label=title, needs_confirmation=True)},
    )


def _message(diagnostic: types.Diagnostic) -> str:
    message = diagnostic.message if isinstance(diagnostic.message, str) else diagnostic.message.value
    return message.strip()[:MESSAGE_CHARS] or "error"


def _numbers(range: types.Range) -> tuple[int, int, int, int]:
    return range.start.line, range.start.character, range.end.line, range.end.character


def _span(session: Session, document: Document, numbers: tuple[int, int, int, int]) -> tuple[Place, Place]:
    """Four numbers of a client as two places, the earlier one first."""
    first_line, first_character, second_line, second_character = numbers
    first = document.place(first_line, first_character, session.encoding)
    second = document.place(second_line, second_character, session.encoding)
    return min(first, second), max(first, second)
