"""A check of all messages between one client and the server against the specification: shapes, and one answer each."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from tests.server.lsp_schema import BASES, Schema, meta_model

Message = dict[str, Any]

TEXT: Schema = {"type": "string"}
OWN: dict[str, Schema] = {
    "midspan/status": {
        "state": {"enum": ["loading", "ready", "working", "degraded", "off", "error"]},
        "message": TEXT,
    },
    "midspan/frame": {
        "id": TEXT,
        "uri": TEXT,
        "version": BASES["integer"],
        "position": {"$ref": "#/$defs/Position"},
        "text": TEXT,
        "settled": {"type": "boolean"},
    },
}
# An answer repeats the client's id, however large.
ID: Schema = {"type": ["integer", "string"]}
ERROR: Schema = {
    "type": "object",
    "properties": {"code": BASES["integer"], "message": TEXT, "data": {}},
    "required": ["code", "message"],
    "additionalProperties": False,
}


class Traffic:
    """The requests of one client that still wait for an answer, and the check of the server's messages."""

    def __init__(self) -> None:
        # Lists of methods by id, as a client may use an id twice.
        self.waiting: dict[int | str | None, list[str]] = {}

    def sent(self, message: Any) -> None:
        """Note a message of the client."""
        if isinstance(message, dict) and "id" in message and isinstance(message.get("method"), str):
            self.waiting.setdefault(message["id"], []).append(message["method"])

    def received(self, message: Message) -> None:
        """Check a message of the server. Raises AssertionError if its shape is wrong or nothing waits for it."""
        if "method" in message:
            validator = _call(message["method"], "id" in message)
        elif "error" in message:
            # An answer to a message that cannot be parsed has no id.
            assert self._asked(message["id"]) or message["id"] is None, f"answers no request: {message}"
            validator = _validator("error")
        else:
            method = self._asked(message["id"])
            assert method is not None, f"answers no request: {message}"
            validator = _result(method)
        problems = [f"{problem.json_path}: {problem.message[:300]}" for problem in validator.iter_errors(message)]
        assert problems == [], f"{message.get('method', 'an answer')} is not what the specification says"

    def _asked(self, id: int | str | None) -> str | None:
        """The method of the request that this answer belongs to; the request no longer waits."""
        methods = self.waiting.get(id, [])
        method = methods.pop(0) if methods else None
        if not methods:
            self.waiting.pop(id, None)
        return method


@cache
def _call(method: str, request: bool) -> Draft202012Validator:
    """The validator of a request or notification that the server sends."""
    if method in OWN:
        params: Schema | None = _object(OWN[method])
        assert not request, f"{method} is a notification"
    else:
        model = meta_model()
        known = model.requests if request else model.notifications
        assert method in known, f"the server sent an unknown {'request' if request else 'notification'}: {method}"
        assert known[method]["messageDirection"] != "clientToServer", f"{method} is not the server's to send"
        params = model.schema(known[method]["params"]) if "params" in known[method] else None
    parts: Schema = {"method": {"const": method}}
    return _validator_of(parts | ({"id": ID} if request else {}) | ({} if params is None else {"params": params}))


@cache
def _result(method: str) -> Draft202012Validator:
    """The validator of a successful answer."""
    known = meta_model().requests
    assert method in known, f"the server answered an unknown request: {method}"
    return _validator_of({"id": ID, "result": meta_model().schema(known[method]["result"])})


@cache
def _validator(kind: str) -> Draft202012Validator:
    assert kind == "error"
    return _validator_of({"id": {"anyOf": [ID, {"type": "null"}]}, "error": ERROR})


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _validator_of(parts: Schema) -> Draft202012Validator:
    schema = _object({"jsonrpc": {"const": "2.0"}} | parts)
    return Draft202012Validator(schema | {"$defs": meta_model().definitions})
