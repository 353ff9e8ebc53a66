"""What opens and what closes in a text, and which closing marks of a fill stand behind the gap already.

A mark is a bracket, a block's word, a tag or a code fence. Literals and comments hold none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from midspan.engine.api import Hole
from midspan.server.text.languages import Language, literals_of

PAIRS = {")": "(", "]": "[", "}": "{"}
BRACKET = re.compile(r"[()\[\]{}]")
TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)((?:[^<>\"'{}]|\"[^\"]*\"|'[^']*'|\{[^{}]*\})*?)(/?)>")
VOID_TAGS = re.compile(r"(?:area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr)\Z", re.I)
FILLERS = " \t;,"
LINES_BELOW = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mark in a text: `kind` is the same for an opening one and for what closes it."""

    kind: str
    opens: bool
    at: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A closing mark behind the gap; `indent` in columns where it leads a line."""

    kind: str
    indent: int | None


def without_literals(text: str, language: Language) -> str:
    """The text with blanks in place of whole literals and comments; places and line ends stay."""
    return literals_of(language).sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def marks(text: str, language: Language, fenced: bool = False) -> list[Mark]:
    """Every mark in order; `fenced` says whether the text begins within a code fence."""
    bare = without_literals(text, language)
    found = [
        Mark(
            kind=one[0] if one[0] in PAIRS else CLOSES[one[0]], opens=one[0] not in PAIRS, at=one.start(), end=one.end()
        )
        for one in BRACKET.finditer(bare)
    ]
    for number, (opener, closer) in enumerate(language.words):
        kind = f"word {number}"
        found.extend(Mark(kind=kind, opens=True, at=m.start(), end=m.end()) for m in re.finditer(opener, bare, re.M))
        closing = re.finditer(closer, bare, re.M)
        found.extend(Mark(kind=kind, opens=False, at=m.start(1), end=m.end(1)) for m in closing)
    found.extend(_tags(text, language))
    found.extend(_fences(text, language, fenced))
    return sorted(found, key=lambda mark: mark.at)


CLOSES = {opener: closer for closer, opener in PAIRS.items()}


def _tags(text: str, language: Language) -> Iterator[Mark]:
    if language.tags == "none":
        return
    for found in TAG.finditer(text):
        closing, name, _, alone = found.groups()
        if not alone and not VOID_TAGS.match(name):
            yield Mark(kind=f"<{name}>", opens=not closing, at=found.start(), end=found.end())


def _fences(text: str, language: Language, fenced: bool) -> Iterator[Mark]:
    at = 0
    for line in text.splitlines(keepends=True):
        lead = len(line) - len(line.lstrip(" \t"))
        if language.fences and line[lead:].startswith(language.fences):
            yield Mark(kind="fence", opens=not fenced, at=at + lead, end=at + len(line.rstrip()))
            fenced = not fenced
        at += len(line)


def unmatched(found: list[Mark]) -> tuple[list[Mark], list[Mark]]:
    """The closing marks that nothing in the list opened, and the opening ones that nothing closed."""
    closing: list[Mark] = []
    opened: list[Mark] = []
    lost: list[Mark] = []
    for mark in found:
        if mark.opens:
            opened.append(mark)
        elif any(one.kind == mark.kind for one in opened):
            while (last := opened.pop()).kind != mark.kind:
                lost.append(last)
        else:
            closing.append(mark)
    return closing, lost + opened


def drop_closers(hole: Hole, text: str, language: Language) -> str:
    """The fill up to the first closing mark that it did not open and that stands behind the gap already.

    As many are kept as the gap's line still needs, and those that close something deeper than what stands there.
    """
    fenced = _fenced(hole.prefix, language)
    closing, opened = unmatched(marks(text, language, fenced))
    if not closing:
        return text
    head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
    opened_here = len(_sure(unmatched(marks(head, language))[1], language))
    opened_in_fill = len(_sure(opened, language))
    near, far = standing(hole, language, fenced)
    sure_end = min((mark.at for mark in opened), default=len(text))
    for mark in closing:
        if mark.at < sure_end and (near + far) and _is_line_of(hole, text, mark, (near + far)[0], language):
            return text[: mark.at].rstrip(" \t")
    behind = (near + far)[opened_in_fill:]
    keep = max(0, opened_here + opened_in_fill - len(near), len(closing) - len(behind))
    while keep < len(closing):
        dropped = closing[keep:]
        pairs = zip(dropped, behind, strict=False)
        if all(_is_there(hole.prefix + text[: mark.at], mark, there, language) for mark, there in pairs):
            return text[: dropped[0].at].rstrip(" \t")
        keep += 1
    return text


def within_list(hole: Hole, text: str, language: Language) -> str:
    """The fill up to the bracket on its first line that ends the list around the gap, where more of the list and its
    end stand on lines below."""
    closing, opened = unmatched(marks(text, language))
    head, rest = hole.prefix[hole.prefix.rfind("\n") + 1 :], hole.suffix.partition("\n")[0]
    beyond = closing[len(unmatched(marks(head, language))[1]) :]
    if not beyond or opened or "\n" in text[: beyond[0].at] or unmatched(marks(rest, language))[0]:
        return text
    return text[: beyond[0].at].rstrip(" \t") if _ends_below(hole, beyond[0].kind, language) else text


def _ends_below(hole: Hole, kind: str, language: Language) -> bool:
    """Whether the bracket around the gap's line is closed below, by what leads a line as deep as the one it is on."""
    *above, head = hole.prefix.split("\n")
    around = [line for line in above if line.strip() and width(line) <= width(head)]
    opener = next((line for line in reversed(around) if width(line) < width(head)), "")
    if not opener or (width(around[-1]) == width(head) and unmatched(marks(around[-1], language))[1]):
        return False
    end = next((line for line in hole.suffix.split("\n")[1:] if line.strip() and width(line) <= width(opener)), "")
    begins = [mark.kind for mark in unmatched(marks(opener, language))[1]][-1:]
    ends = [mark.kind for mark in _leading(end, unmatched(marks(end, language))[0])][:1]
    return kind in PAIRS and begins == ends == [kind] and width(end) == width(opener)


def _is_line_of(hole: Hole, text: str, mark: Mark, there: Standing, language: Language) -> bool:
    """Whether a mark leads a line as deep as the same mark behind the gap, and closes what that line closes, or is
    alone on its line."""
    begin, end = text.rfind("\n", 0, mark.at) + 1, (text + "\n").index("\n", mark.end)
    leads = begin and not text[begin : mark.at].strip()
    if not leads or mark.kind != there.kind or width(text[begin : mark.at]) != there.indent:
        return False
    below = next((line for line in hole.suffix.split("\n")[1:] if line.strip()), "")
    closing, opened = unmatched(marks(text[begin:end], language))
    same = [one.kind for one in closing] == [one.kind for one in unmatched(marks(below, language))[0]]
    return not text[mark.end : end].strip(FILLERS) or (same and not opened)


def _sure(opened: list[Mark], language: Language) -> list[Mark]:
    """Without what may be a type's argument instead of a tag."""
    return [mark for mark in opened if language.tags == "all" or not mark.kind.startswith("<")]


def _is_there(before: str, mark: Mark, there: Standing, language: Language) -> bool:
    """Whether a mark behind the gap closes what this one would; one that leads a line closes a line of its depth."""
    *above, lead = before.split("\n")
    if mark.kind != there.kind:
        return False
    if lead.strip() or there.indent is None or width(lead) <= there.indent:
        return True
    opener = next((line for line in reversed(above) if line.strip() and width(line) <= width(lead)), "")
    kinds = [one.kind for one in unmatched(marks(opener, language))[1]]
    return width(opener) < width(lead) or mark.kind not in kinds


def _fenced(prefix: str, language: Language) -> bool:
    """Whether the text ends within a code fence."""
    if not language.fences:
        return False
    return sum(line.lstrip(" ").startswith(language.fences) for line in prefix.split("\n")[:-1]) % 2 == 1


def standing(hole: Hole, language: Language, fenced: bool = False) -> tuple[list[Standing], list[Standing]]:
    """The closing marks behind the gap: those that may close what its own line opened, and those of lines above."""
    rest, *below = hole.suffix.split("\n")[: LINES_BELOW + 1]
    head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
    closing, opened = unmatched(marks(rest, language, fenced))
    near = [Standing(kind=mark.kind, indent=None) for mark in closing]
    far: list[Standing] = []
    if opened or _remains(rest, closing):
        return near, far
    deepest = width(head) if head.strip() else None
    for line in below:
        if not line.strip():
            continue
        indent = width(line)
        closing, opened = unmatched(marks(line, language, fenced))
        leading = _leading(line, closing)
        if not leading or (deepest is not None and indent > deepest):
            break
        deepest = indent
        to = near if head.strip() and indent == width(head) else far
        to.extend(Standing(kind=mark.kind, indent=indent) for mark in leading)
        if opened or _remains(line, leading):
            break
    return near, far


def _leading(line: str, closing: list[Mark]) -> list[Mark]:
    """The closing marks with nothing but blanks, commas and semicolons before and between them."""
    leading, at = [], 0
    for mark in closing:
        if line[at : mark.at].strip(FILLERS):
            break
        leading.append(mark)
        at = mark.end
    return leading


def _remains(line: str, closing: list[Mark]) -> bool:
    """Whether a line holds more than these marks."""
    at = 0
    for mark in closing:
        if line[at : mark.at].strip(FILLERS):
            return True
        at = mark.end
    return bool(line[at:].strip(FILLERS))


def width(line: str, tab: int = 8) -> int:
    """Columns of the blanks that a line begins with."""
    blanks = line[: len(line) - len(line.lstrip(" \t"))]
    return len(blanks.expandtabs(tab))
