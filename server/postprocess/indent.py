"""The fill's indent: as deep as the gap, with tabs or blanks as the file has, and not beyond the gap's block."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from math import gcd

from midspan.engine.api import Hole
from midspan.server.postprocess.brackets import PAIRS, marks, unmatched, width, without_literals
from midspan.server.text.languages import Language, language_of

TRIPLE = re.compile(r"\"\"\"|'''|`")
# What models write for a level, the most usual first.
STEPS = (4, 8, 2, 3)
OPENS = re.compile(r"[:{(\[]\s*\Z|\b(?:do|then|else|begin)\s*\Z")

UNDONE, JOINED = re.compile(r"[-+*/%=&|^<>,.?(\[\\]\s*\Z"), re.compile(r"\s*[-+*/%=&|^<>,.?:)\]]")
HEADER = re.compile(r"\s*(?:\}\s*)?(?:if|else|for|while|do|case)\b")


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
    """The file's levels of indent: tabs where its lines begin with tabs, else its own step of blanks."""
    head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
    if "\n" not in text and (head.strip() or text[:1] not in (" ", "\t")):
        return text  # no line of it has an indent of its own
    first, *lines = text.split("\n")
    kept, lines = ([first], lines) if head.strip() else ([], [first, *lines])
    # The gap's own line counts, with the indent that is there already.
    near = hole.prefix + (first.strip() if head else "") + hole.suffix
    unit = unit_of(near)
    if not unit:
        return text
    filled = (text if not head else head + text if head.strip() else head + text.lstrip(" \t")).split("\n")
    step = _step(hole, filled, unit, near)
    return "\n".join([*kept, *(_with(unit, line, step) for line in lines)])


def _step(hole: Hole, filled: list[str], unit: str, near: str) -> int:
    """How many blanks the fill writes for a level; the file's own number wherever the fill can be read with it."""
    language = language_of(hole.language)
    level = None if hole.prefix[-1:] in ("", "\n") else _indent(filled[0]).count(unit)
    if unit == "\t":
        return next((step for step in STEPS if _reads(filled, level, step, language)), _common(filled[1:]))
    own = len(unit)
    if not language.blocks or not _is_clear(unit, near) or TRIPLE.search("\n".join(filled)):
        return own
    if _reads(filled, level, own, language, own=True):
        return own
    return next((step for step in STEPS if _reads(filled, level, step, language)), own)


def _reads(filled: list[str], level: int | None, step: int, language: Language, own: bool = False) -> bool:
    """Whether at so many blanks a level each line is one level deeper at most, and only behind what opens a block.

    `level` is the first line's, where it is known. With the file's `own` step a line goes on below at any depth.
    """
    above, depth = "", level
    for line, code in zip(filled, without_literals("\n".join(filled), language).split("\n"), strict=True):
        if not line.strip():
            continue
        deep, left = divmod(len(_indent(line).replace("\t", " " * step)), step)
        if not above:
            deep, left = (deep, left) if level is None else (level, 0)
        deeper = 0 if depth is None else deep - depth
        wrong = left or deeper > 1 or (deeper == 1 and not _opens(above, language))
        if wrong and not (own and _goes_on(above, code, language)):
            return False
        above, depth = code, deep
    return True


def _opens(code: str, language: Language) -> bool:
    """Whether a block begins at a line's end."""
    return bool(OPENS.search(code)) or any(mark.kind not in PAIRS for mark in unmatched(marks(code, language))[1])


def _goes_on(above: str, code: str, language: Language) -> bool:
    """Whether a line may be part of the statement above, or the one statement of a header without a block."""
    if _opens(above, language) and not above.rstrip().endswith(("(", "[")):
        return False
    return bool(
        UNDONE.search(above) or JOINED.match(code) or HEADER.match(above) or unmatched(marks(above, language))[1]
    )


def _is_clear(unit: str, near: str) -> bool:
    """Whether nearly all lines of a text are indented by whole levels, and not always by two at once."""
    lines = (line for line in near.split("\n") if line.strip() and not line.lstrip().startswith("*"))
    indents = [len(indent) for line in lines if (indent := _indent(line))]
    whole = [indent for indent in indents if not indent % len(unit)]
    return len(whole) > 1 and 10 * len(whole) >= 9 * len(indents) and any(one // len(unit) % 2 for one in whole)


def _common(lines: list[str]) -> int:
    """The blanks of a level by what the lines' indents have in common."""
    common = gcd(*(len(_indent(line)) for line in lines if line.strip()))
    return common if 2 <= common < 8 else 4


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _with(unit: str, line: str, step: int) -> str:
    indent = _indent(line)
    levels, left = divmod(len(indent.replace("\t", " " * step)), step)
    return unit * levels + " " * left + line.lstrip(" \t")


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
