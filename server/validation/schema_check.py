"""Errors of a JSON document by its schema, within a time; jsonschema does the work and is imported here alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable

from midspan.server.validation.plain_patterns import is_plain

# Of this thread's processor time.
PATIENCE_S = 0.02
# Looking for equal items takes their number's square, a pattern's time grows faster with the text.
MOST_UNIQUE, MOST_MATCHED = 300, 256
UNKNOWN_KEYS = frozenset(("additionalProperties", "unevaluatedProperties"))
Path = tuple[str | int, ...]
Keyword = Callable[[Any, Any, Any, Any], Any]


class Wrong(NamedTuple):
    """One error: by which keyword, at which path of the document; `rule` is its place in the schema.

    `keys` is how many keys are unknown, else 1.
    """

    keyword: str
    path: Path
    rule: Path
    keys: int


class TooLongError(Exception):
    """The check takes longer than a suggestion may wait for."""


class SchemaCheck:
    """A schema, ready to check documents by. Raises ValueError for one that is none."""

    def __init__(self, schema: Any) -> None:
        known = validators.validator_for(schema, default=Draft202012Validator)
        try:
            known.check_schema(schema)
        except SchemaError as error:
            raise ValueError("no JSON schema") from error
        self._limit = 0.0
        bounded = {name: self._bounded(name, keyword) for name, keyword in known.VALIDATORS.items()}
        # Whatever the registry does not hold is not fetched.
        self._validator = validators.extend(known, bounded)(schema, registry=REGISTRY)

    def errors(self, document: Any) -> list[Wrong] | None:
        """Every error of a document; None where that takes too long, or needs another file."""
        self._limit = time.thread_time() + PATIENCE_S
        try:
            return [_wrong(error) for error in self._validator.iter_errors(document)]
        except (TooLongError, Unresolvable, RecursionError):
            return None

    def _bounded(self, name: str, keyword: Keyword) -> Keyword:
        def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            if time.thread_time() > self._limit:
                raise TooLongError
            if name == "uniqueItems" and isinstance(instance, list) and len(instance) > MOST_UNIQUE:
                return
            if name == "pattern" and isinstance(instance, str) and not _is_quick(value, instance):
                return
            yield from keyword(validator, value, instance, schema) or ()

        return check


def _is_quick(pattern: str, text: str) -> bool:
    return len(text) <= MOST_MATCHED and is_plain(pattern)


def _wrong(error: ValidationError) -> Wrong:
    keyword = str(error.validator)
    keys = 1
    if keyword in UNKNOWN_KEYS and isinstance(error.schema, Mapping) and isinstance(error.instance, Mapping):
        keys = len(set(error.instance) - set(error.schema.get("properties", ())))
    return Wrong(keyword, tuple(error.absolute_path), tuple(error.absolute_schema_path), keys)
