"""JSON-RPC as the specification has it, where pygls falls short: every request gets exactly one response."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Optional, Union

import cattrs
from cattrs.gen import make_dict_structure_fn, override
from lsprotocol import converters, types
from pygls.exceptions import (
    FeatureNotificationError,
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
    JsonRpcServerNotInitialized,
)
from pygls.protocol import (
    JsonRPCNotification,
    JsonRPCRequestMessage,
    JsonRPCResponseMessage,
    LanguageServerProtocol,
)

from midspan.server.lsp.scheduling import wake_soon
from midspan.server.lsp.stdio import Output, WireError, read_messages
from midspan.server.lsp.trigger_kinds import structure_kind

log = logging.getLogger(__name__)

# pygls keeps a second copy of every open document, at a cost that grows with the document, and splits lines wrongly.
OWN_DOCUMENTS = (
    types.TEXT_DOCUMENT_DID_OPEN,
    types.TEXT_DOCUMENT_DID_CHANGE,
    types.TEXT_DOCUMENT_DID_CLOSE,
    types.NOTEBOOK_DOCUMENT_DID_OPEN,
    types.NOTEBOOK_DOCUMENT_DID_CHANGE,
    types.NOTEBOOK_DOCUMENT_DID_CLOSE,
)
# Stands for a document's version that is null, as it may be before LSP 3.16.
NO_VERSION = -(2**31)
# Of a server that ends: what still waits then has no more to wait for.
KEPT_S = 1.0
MALFORMED = (cattrs.BaseValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError)

# One keystroke's messages, as small as they get, and an answer.
HERE = {"line": 0, "character": 0}
CHANGE = {"text": "", "range": {"start": HERE, "end": HERE}}
KEYSTROKE: dict[str, dict[str, Any]] = {
    types.TEXT_DOCUMENT_DID_CHANGE: {"textDocument": {"uri": "", "version": 0}, "contentChanges": [CHANGE]},
    types.TEXT_DOCUMENT_INLINE_COMPLETION: {
        "textDocument": {"uri": ""},
        "position": HERE,
        "context": {"triggerKind": types.InlineCompletionTriggerKind.Automatic},
    },
    types.WORKSPACE_EXECUTE_COMMAND: {"command": "", "arguments": [""]},
}
NOWHERE = types.Position(0, 0)
ANSWER = types.InlineCompletionResponse(
    id=0,
    result=[
        types.InlineCompletionItem(
            "", range=types.Range(NOWHERE, NOWHERE), command=types.Command(title="", command="", arguments=[""])
        )
    ],
)

NOTIFICATIONS = frozenset(method for method, kinds in types.METHOD_TO_TYPES.items() if kinds[1] is None)


def strict_converter() -> cattrs.Converter:
    """lsprotocol's converter, without its taking "3", 1.5 or true for an integer and anything for a string.

    It takes two things that other drafts of LSP have: a document's version that is null, and a trigger kind of 0.
    """
    converter = converters.get_converter()
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(str, _string)
    # lsprotocol takes anything at all for an id or a token, over which pygls would end.
    converter.register_structure_hook(Union[int, str], _identifier)  # noqa: UP007
    converter.register_structure_hook(Optional[Union[int, str]], _identifier_or_none)  # noqa: UP007, UP045
    converter.register_structure_hook(types.InlineCompletionTriggerKind, structure_kind)
    versioned = types.VersionedTextDocumentIdentifier
    command = make_dict_structure_fn(types.ExecuteCommandParams, converter)
    converter.register_structure_hook(types.ExecuteCommandParams, lambda value, of: command(_with_arguments(value), of))
    version = override(struct_hook=lambda value, _: NO_VERSION if value is None else _integer(value, int))
    converter.register_structure_hook(versioned, make_dict_structure_fn(versioned, converter, version=version))
    return converter


class Protocol(LanguageServerProtocol):
    """pygls's protocol with its own reading loop, strict answers, and no documents of its own."""

    def __init__(self, server: Any, converter: cattrs.Converter) -> None:
        super().__init__(server, converter)
        self._lose = server.lose
        self._lenient = converters.get_converter()
        self._initialized = False
        self._exited = False
        self._kept = set[object]()

    def warm(self) -> None:
        """Read and write a keystroke's messages once: the converter makes its code for a kind when that first comes."""
        for method, params in KEYSTROKE.items():
            message = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
            self._converter.structure(message, types.METHOD_TO_TYPES[method][0])
        self._converter.unstructure(ANSWER)

    def _register_builtin_features(self) -> None:
        super()._register_builtin_features()  # type: ignore[no-untyped-call]
        for method in OWN_DOCUMENTS:
            self.fm.builtin_features.pop(method)
        self.fm.add_builtin_feature(types.SHUTDOWN, self._shut_down)
        self.fm.add_builtin_feature(types.EXIT, self._exit)

    async def serve(self, stdin: BinaryIO, stdout: BinaryIO) -> int:
        """Answer messages until `exit`, the input's end or a client that does not read; the process's exit code."""
        loop = asyncio.get_running_loop()
        inbox: asyncio.Queue[bytes | WireError | None] = asyncio.Queue()

        def post(message: bytes | WireError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(inbox.put_nowait, message)

        def leave() -> None:
            log.info("the client no longer reads; stopping")
            post(None)

        def read() -> None:
            wake_soon()
            read_messages(stdin, post)

        self.set_writer(Output(stdout, leave))
        threading.Thread(target=read, name="midspan-reader", daemon=True).start()
        while not self._exited and (message := await inbox.get()) is not None:
            if isinstance(message, WireError):
                log.error("%s: the client's messages cannot be told apart any more, stopping", message)
                return 1
            self.receive(message)
            # An async handler takes its snapshot of the document in its first step: before the next message.
            await asyncio.sleep(0)
        return 0 if self._shutdown else 1

    def receive(self, body: bytes) -> None:
        """Handle one message; a request that cannot be understood is answered with one error."""
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            self._refuse(None, JsonRpcParseError("the message is not JSON"))
            return
        data = _with_whole_id(data)
        waited_for = _id_of(data) in self._result_types
        if _is_answer(data) and not waited_for:
            log.warning("ignored an answer to nothing that was asked")
            return
        if not (_is_message(data) or (waited_for and "method" not in data)):
            self._refuse(_id_of(data), JsonRpcInvalidRequest("the message is not a JSON-RPC 2.0 request"))
            return
        if "method" in data and (refusal := self._refusal(data["method"], "id" in data)) is not None:
            if "id" in data:
                self._refuse(data["id"], refusal)
            return
        try:
            message = self._structure(data)
        except MALFORMED as error:
            self._malformed(data, error)
            return
        self._initialized |= data.get("method") == types.INITIALIZE
        self.handle_message(message)

    def _refusal(self, method: str, request: bool) -> JsonRpcException | None:
        """Why this method is not to be called now, or not like this."""
        if request and method in NOTIFICATIONS:
            return JsonRpcInvalidRequest(f"{method} is a notification; send it without an id")
        if method == types.EXIT:
            return None
        if self._shutdown:
            return JsonRpcInvalidRequest("the server has been shut down")
        if not self._initialized and method != types.INITIALIZE:
            return JsonRpcServerNotInitialized("the server has not been initialized")
        if self._initialized and method == types.INITIALIZE:
            return JsonRpcInvalidRequest("the server has already been initialized")
        return None

    def _structure(self, data: dict[str, Any]) -> Any:
        """The typed message; a method that LSP does not know keeps its params as plain JSON."""
        if "method" not in data:
            kind = self._result_types.pop(data["id"])
            # Older drafts of JSON-RPC have both, of which one is null; some clients leave out a result that is null.
            if data.get("error") is not None or (data.keys() >= {"error"} and "result" not in data):
                kind = types.ResponseErrorMessage
            if kind is None:
                return JsonRPCResponseMessage(id=data["id"], jsonrpc="2.0", result=data.get("result"))
            return self._converter.structure(data, kind)
        method = data["method"]
        if (kind := self.get_message_type(method)) is not None:
            # A client with an odd capability is still worth serving.
            converter = self._lenient if method == types.INITIALIZE else self._converter
            return converter.structure(data, kind)
        if "id" in data:
            return JsonRPCRequestMessage(id=data["id"], method=method, jsonrpc="2.0", params=data.get("params"))
        return JsonRPCNotification(method=method, jsonrpc="2.0", params=data.get("params"))

    def _malformed(self, data: dict[str, Any], error: Exception) -> None:
        # cattrs names the field and the type it wants, never the value; a field may be a key of the client's own.
        reason = "; ".join(cattrs.transform_error(error))
        trouble = JsonRpcInvalidParams(f"invalid params: {reason}")
        if "method" not in data:
            log.error("the client's response cannot be understood")
            # Who waits for it must not wait for ever.
            self._handle_response(data["id"], error=trouble.to_response_error())
            return
        if "id" in data:
            self._refuse(data["id"], trouble)
        else:
            self._lose(data["method"], data.get("params"))
            self._server._report_server_error(trouble, FeatureNotificationError)

    def _refuse(self, id: int | str | None, error: JsonRpcException) -> None:
        # The reason goes to the client; in the log it could quote a document.
        log.warning("refused a message with error %d", error.code)
        # lsprotocol leaves out an id that is null, which the specification wants.
        self._send_data({"jsonrpc": "2.0", "id": id, "error": error.to_response_error()})

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Stands in a handler whose request is answered in its time: `shutdown` does not cancel it."""
        # pygls knows a command by its request's id, and what it runs by a task.
        mine = {self.msg_id, asyncio.current_task()}
        self._kept |= mine
        try:
            yield
        finally:
            self._kept -= mine

    async def answer_kept(self) -> None:
        """Wait for the answers of handlers that `shutdown` did not cancel."""
        if tasks := [task for task in self._kept if isinstance(task, asyncio.Task)]:
            await asyncio.wait(tasks, timeout=KEPT_S)

    def stop_work(self) -> None:
        """Cancel what handlers still do, but for answers that are kept."""
        # Cancelling an answer takes it out of the table.
        for id, future in list(self._request_futures.items()):
            if id not in self._kept and future not in self._kept:
                future.cancel()

    def _shut_down(self, *_: object) -> None:
        self._shutdown = True
        self.stop_work()

    def _exit(self, *_: object) -> None:
        self._exited = True

    def _run_generator(self, future: Any, *, gen: Any, result_future: Any) -> None:
        """pygls's own, for a handler that was cancelled: pygls takes the cancellation for an error of the loop."""
        if future is not None and future.cancelled():
            gen.close()
            result_future.cancel()
        else:
            super()._run_generator(future, gen=gen, result_future=result_future)


def _is_answer(data: Any) -> bool:
    """Whether a message tells of a result or an error; an answer to it would be answered in turn."""
    return isinstance(data, dict) and "method" not in data and ("result" in data or "error" in data)


def _is_message(data: Any) -> bool:
    """Whether a message is a request or a notification."""
    if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
        return False
    return isinstance(data.get("method"), str) and ("id" not in data or _id_of(data) is not None)


def _with_whole_id(data: Any) -> Any:
    """The message with an id such as 3.0 as the integer that it is."""
    found = data.get("id") if isinstance(data, dict) else None
    return data | {"id": int(found)} if isinstance(found, float) and found.is_integer() else data


def _id_of(data: Any) -> int | str | None:
    found = data.get("id") if isinstance(data, dict) else None
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None


def _with_arguments(value: Any) -> Any:
    """Parameters of a command; no arguments are an empty list, so that one that is missing is the client's mistake."""
    missing = isinstance(value, dict) and value.get("arguments") is None
    return {**value, "arguments": []} if missing else value


def _integer(value: Any, kind: type[int]) -> int:
    """An integer or one of its enumerations; some JSON encoders write whole numbers as 3.0."""
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise TypeError("not an integer")
    return kind(value)


def _boolean(value: Any, _: type[bool]) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not a boolean")
    return value


def _string(value: Any, kind: type[str]) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return kind(value)


def _identifier(value: Any, _: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError("neither an integer nor a string")
    return value


def _identifier_or_none(value: Any, kind: object) -> int | str | None:
    return None if value is None else _identifier(value, kind)
