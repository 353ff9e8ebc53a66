"""JSON files of a checkpoint, read into frozen dataclasses whose annotations hold the bounds of every value.

    @dataclass(frozen=True)
    class Sizes:
        layers: Annotated[int, Within(1, 512)]
        kinds: Annotated[tuple[Literal["full", "sliding"], ...], Count(1, 512)] = ()

Standard library only. A boolean is no number here, a number no text, and NaN lies within no bounds.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator, Mapping, Sized
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from midspan.engine.api import CheckpointError

T = TypeVar("T")
# Bytes of a JSON file, unless a caller allows more; the release's config.json has some ten thousand.
MOST_BYTES = 1 << 20
SHOWN_CHARS = 40
RESTORE = "restore it from the checkpoint's source"


@dataclass(frozen=True, slots=True)
class Within:
    """The least and the greatest number that is allowed."""

    low: float
    high: float

    def holds(self, value: Any) -> bool:
        """Whether a number lies within; NaN does not."""
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.low:.15g}" if self.low == self.high else f"from {self.low:.15g} to {self.high:.15g}"


@dataclass(frozen=True, slots=True)
class Count:
    """The least and the greatest number of items of a list or an object."""

    low: int
    high: int

    def holds(self, value: Any) -> bool:
        """Whether a list or an object has so many items."""
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Spelled:
    """The regular expression that a whole text must match, and what that means in words."""

    pattern: str
    words: str

    def holds(self, value: Any) -> bool:
        """Whether a text is spelled so."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


Bound = Within | Count | Spelled


class KeyProblem(Exception):
    """A value that cannot be used: the path of its key, and the rest of the sentence about it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}")
        self.key, self.problem = key, problem


def read_object(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError, with one line that names the file."""
    data = read_bytes(file, most_bytes)
    try:
        found = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not valid JSON ({one_line(error)}); {RESTORE}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: not a JSON object; {RESTORE}")
    return found


def read_bytes(file: Path, most_bytes: int) -> bytes:
    """A regular file of at most so many bytes. Raises CheckpointError."""
    try:
        if not file.is_file():
            raise CheckpointError(f"{file}: missing or not a regular file; {RESTORE}")
        with file.open("rb") as opened:
            data = opened.read(most_bytes + 1)
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; make it readable") from error
    if len(data) > most_bytes:
        raise CheckpointError(f"{file}: has more than {most_bytes} bytes, the most that is read; {RESTORE}")
    return data


def one_line(error: BaseException) -> str:
    """The beginning of an error's message, on one line."""
    return " ".join(str(error).split())[:160]


def decode(kind: type[T], values: Mapping[str, Any], at: str = "", *, others: bool = False) -> T:
    """An object as a dataclass; `at` is its own path. `others` lets keys be that the dataclass does not have.

    Raises KeyProblem for the first key that is missing, unknown, or whose value is not allowed.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = [key for key in values if key not in known]
    if unknown and not others:
        raise KeyProblem(_path(at, unknown[0][:SHOWN_CHARS]), f"is an unknown key; known here: {', '.join(known)}")
    out = {}
    for name, field in known.items():
        wanted = _hints(kind)[name]  # type: ignore[arg-type]
        if name in values:
            out[name] = _value(wanted, values[name], _path(at, name), others)
        elif _needed(field):
            raise KeyProblem(_path(at, name), f"is missing; give {allowed(wanted)}")
    return kind(**out)


def allowed(wanted: Any) -> str:
    """What an annotation allows, in words."""
    return " or ".join(dict.fromkeys(_allowed(*_unpacked(one)) for one in _alternatives(wanted)))


def _value(wanted: Any, value: Any, key: str, others: bool) -> Any:
    """A JSON value as an annotation wants it. Raises KeyProblem."""
    for one in _alternatives(wanted):
        kind, bound = _unpacked(one)
        if not _is_of(kind, value):
            continue
        if bound is not None and not bound.holds(value):
            break
        return _inner(kind, value, key, others)
    raise KeyProblem(key, f"is {shown(value)}; give {allowed(wanted)}")


def _inner(kind: Any, value: Any, key: str, others: bool) -> Any:
    """A value whose own type and size are right: what is inside it is looked at."""
    if is_dataclass(kind):
        return decode(kind, value, key, others=others)  # type: ignore[arg-type]
    origin, inside = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(_value(inside[0], one, f"{key}[{place}]", others) for place, one in enumerate(value))
    if origin is dict:
        names = [_value(inside[0], name, f"{key}: the key", others) for name in value]
        return {name: _value(inside[1], value[name], _path(key, name), others) for name in names}
    return float(value) if kind is float else value


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a JSON value has an annotation's type."""
    origin = get_origin(kind)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(kind))
    if is_dataclass(kind) or origin is dict:
        return isinstance(value, dict)
    if origin is tuple:
        return isinstance(value, list)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _alternatives(wanted: Any) -> Iterator[Any]:
    """The parts of a union, or the annotation itself."""
    if get_origin(wanted) in (Union, types.UnionType):
        yield from get_args(wanted)
    else:
        yield wanted


def _unpacked(wanted: Any) -> tuple[Any, Bound | None]:
    """An annotation without its bounds, and the bounds."""
    if get_origin(wanted) is Annotated:
        return get_args(wanted)[0], get_args(wanted)[1]
    return wanted, None


def _allowed(kind: Any, bound: Bound | None) -> str:
    origin = get_origin(kind)
    if kind is type(None):
        return "null"
    if kind is bool:
        return "true or false"
    if origin is Literal:
        return " or ".join(json.dumps(one) for one in get_args(kind))
    if is_dataclass(kind) or origin is dict:
        return "an object"
    if origin is tuple:
        number = "" if bound is None else f"{bound} "
        return f"a list of {number}{_plural(get_args(kind)[0])}"
    if kind is str:
        return "a text" if bound is None else str(bound)
    whole = "a whole number" if kind is int else "a number"
    exact = isinstance(bound, Within) and bound.low == bound.high
    return str(bound) if exact else whole if bound is None else f"{whole} {bound}"


def _plural(inside: Any) -> str:
    """What a list holds, each of it."""
    words = allowed(inside)
    for article, plural in (("a whole number", "whole numbers"), ("a number", "numbers")):
        if words.startswith(article):
            return plural + words.removeprefix(article)
    return words


def shown(value: Any) -> str:
    """A JSON value in a message: on one line, and no longer than a few words."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, Sized) and not isinstance(value, str):
        return f"a list of {len(value)}"
    text = json.dumps(value[:SHOWN_CHARS] if isinstance(value, str) else value)
    return text if len(text) <= 2 * SHOWN_CHARS else text[:SHOWN_CHARS] + "..."


def _path(at: str, key: str) -> str:
    """The path of a key; one that would not stand on a line as it is comes quoted."""
    name = key if re.fullmatch(r"[A-Za-z0-9_.+-]+", key) else json.dumps(key)
    return f"{at}.{name}" if at else name


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _refuse_constant(name: str) -> None:
    """NaN and infinities, which JSON does not have."""
    raise ValueError(f"{name} is no number")
