"""The fill's indent: as deep as the gap, with tabs or blanks as the file has, and not beyond the gap's block."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from midspan.engine.api import Hole
from midspan.server.closers import marks, width
from midspan.server.languages import language_of

TRIPLE = re.compile(r"\"\"\"|'''|`")
OPENS = re.compile(r"[:{(\[]\s*\Z|\b(?:do|then|else|begin)\s*\Z")


def own_indent(hole: Hole, text: str) -> str:
    """A fill behind an indent does not begin with one; lines it gave relative to its first are moved to it."""
    head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
    if not head.strip() and hole.suffix[:1] in ("", "\n") and hole.kind in ("line", "block"):
        text = text.lstrip("\n")
    if not head or head.strip():
        return text
    text = text.lstrip(" \t")
    first, *lines = text.split("\n")
    second = next((line for line in lines if line.strip()), "")
    if not second or not OPENS.search(first) or width(second) > width(head) or _closes(hole, second):
        return text
    return "\n".join([first, *(head + line if line.strip() else line for line in lines)])


def _closes(hole: Hole, line: str) -> bool:
    found = marks(line, language_of(hole.language))
    return bool(found) and not found[0].opens and not line[: found[0].at].strip()


def same_indent(hole: Hole, text: str) -> str:
    """Tabs where the file's lines begin with tabs, and its own step of blanks where they begin with blanks."""
    begun = bool(hole.prefix[hole.prefix.rfind("\n") + 1 :].strip())
    first, *lines = text.split("\n")
    kept, lines = ([first], lines) if begun else ([], [first, *lines])
    unit = unit_of(hole.prefix + hole.suffix)
    if unit == "\t":
        step = _step(hole, [first, *lines] if begun else lines)
        lines = [_with_tabs(line, step) for line in lines]
    elif unit:
        lines = [_indent(line).replace("\t", unit) + line.lstrip(" \t") for line in lines]
    return "\n".join([*kept, *lines])


def _step(hole: Hole, lines: list[str]) -> int:
    """How many blanks the fill writes for a tab: its second line's indent over the depth that line should have."""
    second = next((line for line in lines[1:] if line.strip()), "")
    levels = hole.prefix[hole.prefix.rfind("\n") + 1 :].count("\t") + bool(OPENS.search(lines[0]))
    step, left = divmod(len(_indent(second)), max(1, levels))
    return step if 2 <= step <= 8 and not left else 4


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _with_tabs(line: str, step: int) -> str:
    indent = _indent(line)
    steps, left = divmod(len(indent.replace("\t", " " * step)), step)
    return "\t" * steps + " " * left + line.lstrip(" \t")


def unit_of(text: str) -> str:
    """One level of indent: a tab, some blanks, or nothing where no line is indented."""
    indents = [_indent(line) for line in text.split("\n") if line.strip()]
    tabs = sum(indent.startswith("\t") for indent in indents)
    blanks = sum(indent.startswith(" ") for indent in indents)
    if tabs > blanks:
        return "\t"
    steps = Counter(len(two) - len(one) for one, two in pairwise(indents) if len(two) - len(one) > 1)
    return " " * (steps.most_common(1)[0][0] if steps else min([len(one) for one in indents if one], default=0))


def within_scope(hole: Hole, text: str) -> str:
    """A block ends where its lines leave the gap's depth, but for the mark that closes it."""
    if hole.kind != "block":
        return text
    head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
    lines = (head + text).split("\n")
    depth = next((width(line) for line in lines if line.strip()), 0)
    directive = re.compile(r"\s*#") if language_of(hole.language).name in ("c", "cpp", "csharp") else None
    quoted = False
    for number, line in enumerate(lines):
        left = line.strip() and width(line) < depth and not quoted
        if left and not _closes(hole, line) and not (directive and directive.match(line)):
            return "\n".join(lines[:number])[len(head) :]
        quoted ^= len(TRIPLE.findall(line)) % 2 == 1
    return text
