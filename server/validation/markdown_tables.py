"""Rows of Markdown tables: one that is filled in has as many cells as its table's header."""

from __future__ import annotations

import re
from collections.abc import Sequence

from midspan.server.validation.splice import Objection, Splice

# Of longer documents nothing is said.
MAX_CHARS = 200_000
BAR = re.compile(r"(?<!\\)\|")
DELIMITER = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?)?|\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)+\|?")
QUOTE = re.compile(r"(?:[ \t]*>)+")
FENCE = re.compile(r"[ \t]*(?:```|~~~)")


def objection(splice: Splice) -> Objection | None:
    """What to say of a row of a table that the fill touches and that has too few cells, or too many.

    Nothing where other rows of that table are uneven as well, nor in a block of code.
    """
    head, tail = splice.before.rpartition("\n")[2], splice.after.partition("\n")[0]
    if "|" not in head + splice.fill + tail or len(splice.before) + len(splice.after) > MAX_CHARS:
        return None
    lines = splice.text.split("\n")
    first = splice.before.count("\n")
    touched = range(first, first + splice.fill.removesuffix("\n").count("\n") + 1)
    if sum(FENCE.match(line) is not None for line in lines[:first]) % 2:
        return None
    for row in touched:
        found = _cells_of(lines, row, touched)
        if found is not None and found[0] != found[1]:
            words = f"has {found[0]} cells in a row of a table that has {found[1]}"
            begin = sum(len(line) + 1 for line in lines[:row])
            return Objection(kind="table", words=words, spans=splice.of_fill(begin, begin + len(lines[row])))
    return None


def _cells_of(lines: Sequence[str], row: int, touched: range) -> tuple[int, int] | None:
    """How many cells a row has, and how many it has to have; None outside of tables and in one that is uneven."""
    if not BAR.search(lines[row]):
        return None
    top, end = row, row + 1
    while top and BAR.search(lines[top - 1]):
        top -= 1
    while end < len(lines) and BAR.search(lines[end]):
        end += 1
    delimiter = next((at for at in range(top + 1, end) if DELIMITER.fullmatch(_bare(lines[at]))), None)
    if delimiter is None or row < delimiter - 1:
        return None
    # A header that is being written goes by what stands below it.
    ruled_by = delimiter if row == delimiter - 1 else delimiter - 1
    wanted = cells(lines[ruled_by])
    others = [at for at in range(delimiter - 1, end) if at not in touched]
    if any(cells(lines[at]) != wanted for at in others):
        return None
    return cells(lines[row]), wanted


def cells(line: str) -> int:
    """How many cells a row has; a bar that a backslash stands before parts none."""
    bare = _bare(line)
    inner = bare.removeprefix("|")
    if inner.endswith("|") and not inner.endswith("\\|"):
        inner = inner[:-1]
    return len(BAR.findall(inner)) + 1


def _bare(line: str) -> str:
    """A line without its marks of quotation and the blanks around it."""
    return QUOTE.sub("", line, count=1).strip() if line.lstrip().startswith(">") else line.strip()
