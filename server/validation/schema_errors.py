"""Errors by a schema: what is said of them, which count while a document is being written, and which are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midspan.server.validation.schema_check import Wrong

WORDS = {
    "type": "has a value of a type that this file's schema does not allow",
    "enum": "has a value that is none of those that this file's schema allows",
    "const": "has another value than this file's schema wants",
    "additionalProperties": "has a key that this file's schema does not know",
    "unevaluatedProperties": "has a key that this file's schema does not know",
    "required": "leaves out a key that this file's schema requires",
}
OTHER_WORDS = "breaks this file's schema"
# What a document that is being written lacks for a while: no error, but in what the fill writes whole.
INCOMPLETE = frozenset(
    ("required", "minItems", "minProperties", "contains", "minContains", "dependentRequired", "dependencies")
)
# What a string that is being written lacks for a while: no error, but where the fill writes it whole.
SHORT = frozenset(("minLength", "pattern"))
Errors = Counter[tuple[object, ...]]


def words_for(one: Wrong) -> str:
    """What to say of an error."""
    return WORDS.get(one.keyword, OTHER_WORDS)


def counted(errors: Iterable[Wrong] | None) -> Errors:
    """How many errors there are of each kind and place; none for what could not be checked."""
    found = Errors()
    for one in errors or ():
        found[key_of(one)] += one.keys
    return found


def key_of(one: Wrong) -> tuple[object, ...]:
    """What two errors have in common that are one; an item that is left out moves those behind it."""
    return one.rule, tuple("*" if isinstance(step, int) else step for step in one.path)
