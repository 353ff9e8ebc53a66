"""Places in real files where fills have been reported to go wrong: a seeded function per kind, and checks of fills.

A place is a whole text with a cursor in it. A kind's function takes a file's lines and returns a random place in it, or
None if its random choice has none. It removes or inserts text as a person would.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TRIES = 400
WORDS = frozenset((*dir(builtins), *keyword.kwlist))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cursor in a text; `parsed` is whether the text parses as it is."""

    text: str
    row: int
    column: int
    parsed: bool


Lines = list[str]
Kind = Callable[[random.Random, Lines], "Place | None"]


def parses(text: str) -> bool:
    """Whether Python itself can parse a text."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def indent_of(line: str) -> str:
    """The whitespace that a line begins with."""
    return line[: len(line) - len(line.lstrip())]


def put(lines: Lines, row: int, *new: str, instead: int = 0) -> Lines:
    """The lines with `new` ones before a row, replacing `instead` lines there."""
    return [*lines[:row], *new, *lines[row + instead :]]


def at(lines: Lines, row: int, column: int) -> Place:
    """The place at a row and column of these lines."""
    text = "\n".join(lines)
    return Place(text=text, row=row, column=column, parsed=parses(text))


def code_row(chance: random.Random, lines: Lines, least: int = 8) -> int | None:
    """A random row, not the first or last, if it has at least `least` characters of code; else None."""
    row = chance.randrange(1, len(lines) - 1)
    body = lines[row].strip()
    return None if len(body) < least or body.startswith(("#", '"""', "'''")) else row


def beginning(chance: random.Random, line: str) -> int:
    """A column up to which a line may have been typed: behind its first letters or behind a punctuation mark."""
    indent = len(indent_of(line))
    marks = [found.end() for found in re.finditer(r"[.(\"'=@ ]", line) if indent < found.end() < len(line) - 3]
    return chance.choice([*marks[:2], indent + 2, indent + 3])


def next_line(chance: random.Random, lines: Lines) -> Place | None:
    """The beginning of a line typed again above it; in a quarter of the cases nothing but its indent."""
    row = code_row(chance, lines)
    if row is None:
        return None
    typed = indent_of(lines[row]) if chance.random() < 0.25 else lines[row][: beginning(chance, lines[row])]
    return at(put(lines, row, typed), row, len(typed))


def line_above(chance: random.Random, lines: Lines) -> Place | None:
    """The beginning of a line typed again below it."""
    row = code_row(chance, lines)
    if row is None or lines[row].rstrip().endswith((":", "(", "[", "{", "\\")):
        return None
    typed = lines[row][: beginning(chance, lines[row])]
    return at(put(lines, row + 1, typed), row + 1, len(typed))


def before_code(chance: random.Random, lines: Lines) -> Place | None:
    """At a line's first character of code, within its indent, or at its very start."""
    row = code_row(chance, lines)
    if row is None:
        return None
    indent = len(indent_of(lines[row]))
    return at(lines, row, chance.choice((indent, indent, indent // 2, 0)))


def odd_indent(chance: random.Random, lines: Lines) -> Place | None:
    """On a blank line behind a statement, eight columns too deep or two too few."""
    row = code_row(chance, lines)
    if row is None or lines[row].rstrip()[-1] in ":([{,\\":
        return None
    deep = len(indent_of(lines[row])) + chance.choice((8, -2))
    place = at(put(lines, row + 1, " " * deep), row + 1, deep) if deep > 0 else None
    # Where a statement fits, the indent is not odd.
    return None if place is None or parses(filled(place, "pass")) or parses(filled(place, "if x: pass")) else place


def backslash(chance: random.Random, lines: Lines) -> Place | None:
    """Behind a backslash at a line's end: one of the file's own, or a line broken at an operator."""
    row = code_row(chance, lines)
    if row is None:
        return None
    if lines[row].endswith("\\"):
        return at(lines, row, len(lines[row]))
    operators = [found.end() for found in re.finditer(r" (?:and|or|=|==|\+|in) ", lines[row])]
    if not operators:
        return None
    column = chance.choice(operators)
    head, tail = lines[row][:column] + "\\", indent_of(lines[row]) + "        " + lines[row][column:]
    place = at(put(lines, row, head, tail, instead=1), row, len(head))
    return place if place.parsed else None


def in_a_word(chance: random.Random, lines: Lines) -> Place | None:
    """Between two letters of a word."""
    row = code_row(chance, lines)
    if row is None:
        return None
    inner = [c for c in range(1, len(lines[row])) if re.match(r"\w\w", lines[row][c - 1 : c + 1])]
    return at(lines, row, chance.choice(inner)) if inner else None


def finished(chance: random.Random, lines: Lines) -> Place | None:
    """Behind a statement that is complete."""
    row = code_row(chance, lines)
    if row is None or lines[row].rstrip()[-1] in ":([{,\\":
        return None
    return at(lines, row, len(lines[row].rstrip()))


def arguments(chance: random.Random, lines: Lines) -> Place | None:
    """Before a closing bracket whose last argument, or whose whole list, is removed."""
    row = code_row(chance, lines)
    if row is None:
        return None
    spans = [*re.finditer(r"(?<=[(,])[^(),]+(?=\))|(?<=:= )\w+", lines[row])]
    if not spans:
        return None
    start, end = chance.choice(spans).span()
    return at(put(lines, row, lines[row][:start] + lines[row][end:], instead=1), row, start)


def docstring(chance: random.Random, lines: Lines) -> Place | None:
    """A blank line within a docstring of several paragraphs, as deep as its text."""
    row = chance.randrange(1, len(lines) - 1)
    if lines[row].strip() or not lines[row - 1].strip() or not lines[row + 1].strip():
        return None
    marks = "\n".join(lines[:row])
    if marks.count('"""') % 2 == 0:
        return None
    indent = indent_of(lines[row + 1])
    place = at(put(lines, row, indent, instead=1), row, len(indent))
    return place if place.parsed and not parses(filled(place, '"""')) else None


def emptied(chance: random.Random, lines: Lines) -> Place | None:
    """A line of code removed except for its indent, as when somebody begins a line."""
    row = code_row(chance, lines)
    if row is None:
        return None
    indent = indent_of(lines[row])
    return at(put(lines, row, indent, instead=1), row, len(indent))


def typing(chance: random.Random, lines: Lines) -> Place | None:
    """A line of code typed up to some character: the common case, which no veto may suppress."""
    row = code_row(chance, lines)
    if row is None:
        return None
    column = chance.randrange(len(indent_of(lines[row])) + 1, len(lines[row].rstrip()))
    return at(put(lines, row, lines[row][:column], instead=1), row, column)


def placeholder(chance: random.Random, lines: Lines) -> Place | None:
    """`pass`, `...` or a TODO comment in place of a statement that is alone in the block below a header."""
    row = code_row(chance, lines)
    if row is None or not lines[row - 1].rstrip().endswith(":") or lines[row].rstrip()[-1] in ":([{,\\":
        return None
    comment = "# TODO: " + chance.choice(("read the file", "handle this case", "compute it", "check the arguments"))
    lines = put(lines, row, indent_of(lines[row]) + chance.choice(("pass", "...", comment)), instead=1)
    return at(lines, row, len(indent_of(lines[row])))


KINDS: dict[str, Kind] = {
    "next line": next_line,
    "line above": line_above,
    "before code": before_code,
    "odd indent": odd_indent,
    "backslash": backslash,
    "in a word": in_a_word,
    "finished": finished,
    "arguments": arguments,
    "docstring": docstring,
    "placeholder": placeholder,
    "emptied line": emptied,
    "typing": typing,
}


def filled(place: Place, text: str, span: tuple[int, int] | None = None) -> str:
    """The place's text with `text` in place of a span of columns in its line, or at the cursor."""
    start, end = (place.column, place.column) if span is None else span
    lines = place.text.split("\n")
    lines[place.row] = lines[place.row][:start] + text + lines[place.row][end:]
    return "\n".join(lines)


def draw(name: str, files: list[Lines], count: int, seed: int = 0) -> Iterator[Place]:
    """`count` places of a kind, each in a random file; fewer if the files hold too few of them."""
    chance = random.Random(f"{name} {seed}")
    for _ in range(TRIES * count):
        if count and (place := KINDS[name](chance, chance.choice(files))) is not None:
            count -= 1
            yield place


def breaks(place: Place, text: str) -> bool:
    """Whether a filled text does not parse although the place's own text did."""
    return place.parsed and not parses(text)


def repeats(place: Place, text: str) -> bool:
    """Whether the first or last filled line repeats the line above, or the next one below."""
    old, new = place.text.split("\n"), text.split("\n")
    last = place.row + len(new) - len(old)
    above = next((line for line in reversed(new[: place.row]) if line.strip()), "")
    below = next((line for line in new[last + 1 :] if line.strip()), "")
    return same(new[place.row], above) or same(new[place.row], below) or same(new[last], below)


def same(line: str, other: str) -> bool:
    """Whether two lines are equal and long enough that a repeat is a fault."""
    return len(re.findall(r"\w", line)) > 5 and line.rstrip(" ,;") == other.rstrip(" ,;")


def cuts(place: Place, text: str, end: int) -> bool:
    """Whether a fill that ends at column `end` of its last line joins the letters behind it to an unknown word."""
    last = place.row + text.count("\n") - place.text.count("\n")
    line = text.split("\n")[last]
    if not re.match(r"\w\w", line[max(0, end - 1) : end + 1]):
        return False
    head, tail = re.search(r"\w*\Z", line[:end]), re.match(r"\w*", line[end:])
    word = (head[0] if head else "") + (tail[0] if tail else "")
    return word not in WORDS and word not in re.findall(r"\w+", place.text)
