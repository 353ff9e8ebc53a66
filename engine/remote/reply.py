"""Values out of JSON that another program wrote: of the type that is asked for, or nothing."""

from __future__ import annotations

import math
from typing import Any

SHOWN_CHARS = 160
# Below so many nats a token's probability tells nothing more.
LOWEST = -30.0
# A text that has so many characters in a row of what was sent repeats it.
REPEATED_CHARS = 12


def found_in(found: Any, *path: str | int) -> Any:
    """What lies at a path of keys and places; None where the path ends before."""
    for step in path:
        if isinstance(found, dict) and isinstance(step, str):
            found = found.get(step)
        elif isinstance(found, list) and isinstance(step, int) and -len(found) <= step < len(found):
            found = found[step]
        else:
            return None
    return found


def text_of(found: Any, *path: str | int) -> str:
    """The text at a path; empty where there is none."""
    value = found_in(found, *path)
    return value if isinstance(value, str) else ""


def number_of(found: Any, *path: str | int) -> float | None:
    """The finite number at a path; None where there is none."""
    value = found_in(found, *path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def items_of(found: Any, *path: str | int) -> list[Any]:
    """The list at a path; empty where there is none."""
    value = found_in(found, *path)
    return value if isinstance(value, list) else []


def log_probability(found: Any, *path: str | int) -> float | None:
    """A log-probability in nats at a path; None where there is none, or one that no probability has."""
    value = number_of(found, *path)
    return None if value is None else min(0.0, max(LOWEST, value))


def one_line(text: str) -> str:
    """What another program says, fit to stand in a line of ours."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * SHOWN_CHARS]).split())
    return line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 3] + "..."


def repeats(said: str, asked: Any) -> bool:
    """Whether a server's words hold a piece of what it was asked, which is somebody's code; a model's name is not."""
    if isinstance(asked, dict):
        return any(repeats(said, value) for key, value in asked.items() if key != "model")
    if isinstance(asked, list | tuple):
        return any(repeats(said, value) for value in asked)
    places = range(min(len(said), 4 * SHOWN_CHARS) - REPEATED_CHARS + 1)
    return isinstance(asked, str) and any(said[place : place + REPEATED_CHARS] in asked for place in places)
