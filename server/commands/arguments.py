"""Values of options, read from the command line. Each raises ArgumentTypeError in one line."""

from __future__ import annotations

import argparse


def position(text: str) -> tuple[int, int]:
    """`LINE:COL`, both from 1."""
    line, _, column = text.partition(":")
    if not (line.isdecimal() and column.isdecimal() and int(line) and int(column)):
        raise argparse.ArgumentTypeError(f"{text!r} is not LINE:COL, two numbers from 1, as in 12:5")
    return int(line), int(column)


def positive(text: str) -> int:
    """A number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def seed(text: str) -> int:
    """What a random generator begins with."""
    if not text.isdecimal() or len(text) > 10 or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to 4294967295")
    return int(text)


def share(text: str) -> float:
    """A part of a whole."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= 1.0:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 to 1")
    return found


def few(text: str) -> int:
    """How many candidates: a number from 1 to 20."""
    if positive(text) > 20:
        raise argparse.ArgumentTypeError(f"{text} candidates are too many; ask for 20 at most")
    return int(text)


def ports(text: str) -> tuple[int, ...]:
    """Ports, with commas between them."""
    found = [int(one) for one in text.split(",") if one.isdecimal() and 0 < int(one) < 1 << 16]
    if len(found) != text.count(",") + 1 or len(found) > 100:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no list of ports, such as 9931,8080")
    return tuple(found)
