"""(Hole, fill) -> the text to insert, or nothing: small pure filters. Line ends stay LF; the caller sets its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from midspan.engine.api import Hole
from midspan.server.postprocess.brackets import (
    PAIRS,
    drop_closers,
    marks,
    unmatched,
    width,
    within_list,
    without_literals,
)
from midspan.server.postprocess.indent import OPENS, own_indent, same_indent, within_scope
from midspan.server.postprocess.misplaced import before_code, next_line_again, whole_words
from midspan.server.text.languages import language_of

QUOTES, LONG_QUOTES = "\"'`", ('"""', "'''", "`")
PUNCTUATION, CLOSING = ";,:", " \t)]}"
MARKS = "()[]{}" + QUOTES
# Tokens of models, spelled out; none of them is code in any language of the table.
TOKEN = re.compile(
    r"<\|[a-z_]+\|>|<\|(?:turn|channel)>|<(?:turn|channel)\|>|<｜[^｜\n]+｜>"
    r"|<(?:bos|eos|pad|mask|unused\d+|fim_[a-z]+|file_sep|repo_name)>"
)
# A model that runs in a circle: so many characters at a line's end, at least so often.
CIRCLES = [*((size, 6) for size in range(3, 10)), *((size, 4) for size in range(10, 61))]
FENCED = re.compile(r"\s*```[\w+#-]*\n(.*?)(?:\n[ \t]*```.*)?", re.DOTALL)
IMPORT = re.compile(r"(?:import|from|use|using|require|#\s*include|@import)\b")
MARKER = re.compile(r"\s*(?:[-*+] \[[ xX]\]|[-*+>]|\d+[.)]|#+|//+!?|--|;+)\s+\Z")
# Lines that stand twice in a row in good code are short.
TELLING = 5


def trim(hole: Hole, text: str) -> str | None:
    """The fill without what stands there already; None where nothing worth inserting is left."""
    for filter_ in FILTERS:
        text = filter_(hole, text)
    return text if text.strip() else None


def plain_lines(_: Hole, text: str) -> str:
    """LF line ends only."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def up_to_a_token(hole: Hole, text: str) -> str:
    """The fill ends where a model's token is spelled out, unless the file spells it too."""
    found = TOKEN.search(text)
    return text if found is None or found[0] in hole.prefix or found[0] in hole.suffix else text[: found.start()]


def unfenced(hole: Hole, text: str) -> str:
    """Without the marks of a code block around it, which a model that chats writes."""
    fenced = None if hole.kind in ("string", "comment") or language_of(hole.language).fences else FENCED.fullmatch(text)
    return text if fenced is None else fenced[1]


def head_again(hole: Hole, text: str) -> str:
    """Without what stands before the gap on its line: a list's or a comment's mark, or all of the line so far."""
    head, begin = head_of(hole).lstrip(), text.lstrip(" \t")
    telling = MARKER.match(head) or len(re.findall(r"\w", head)) > 2 or re.search(r"[^=!<>]=\s+\Z", head)
    return begin[len(head) :] if telling and begin.startswith(head) else text


def one_blank(hole: Hole, text: str) -> str:
    """No blank behind the blank that the gap's line ends in."""
    head = head_of(hole)
    return text.lstrip(" \t") if head.strip() and head[-1] in " \t" and hole.kind != "string" else text


def first_line(hole: Hole, text: str) -> str:
    """Only blocks and spans may hold more than one line; a line put before another keeps its line end."""
    if hole.kind in ("block", "span") or "\n" not in text:
        return text
    return text[: text.index("\n") + before_a_line(hole)]


def before_a_line(hole: Hole) -> bool:
    """Whether the gap is at a line's start with a line that is not blank right behind it."""
    return hole.prefix[-1:] in ("", "\n") and hole.suffix[:1] not in ("", "\n")


def circles(_: Hole, text: str) -> str:
    """A line that ends in a circle goes; of lines that stand three times in a row the first stays."""
    kept: list[str] = []
    for line in text.split("\n"):
        end = line.rstrip()
        possible = (end[-size:] * times for size, times in CIRCLES if size * times <= len(end))
        if any(end.endswith(circle) and re.search(r"\w", circle) for circle in possible):
            break
        if line.strip() and kept[-2:] == [line, line]:
            return "\n".join(kept[:-1])
        kept.append(line)
    return "\n".join(kept)


def repeated_lines(hole: Hole, text: str) -> str:
    """Cut from the first line on that repeats the suffix's next line that is not blank."""
    following = next_line(hole).rstrip()
    lines = text.split("\n")
    if len(following.strip()) < 2:
        return text
    # A line that a closing mark leads and that holds more is the same one at any depth.
    deep = following.strip()[0] in PAIRS and len(following.strip()) >= TELLING
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == following and not _closes_its_own(hole, lines[: number + 1]):
            return "\n".join(lines[:number])
        if deep and line.strip() == following.strip():
            return "\n".join(lines[:number])
    return text


def _closes_its_own(hole: Hole, lines: list[str]) -> bool:
    """Whether the last line is nothing but what closes a line before it in the fill."""
    language = language_of(hole.language)
    if re.search(r"\w", re.sub(r"</[^<>]*>|\b(?:end|fi|done|esac|until)\b", "", lines[-1])):
        return False
    whole, without = "\n".join(lines), "\n".join(lines[:-1])
    return len(unmatched(marks(whole, language))[1]) < len(unmatched(marks(without, language))[1])


def quote(hole: Hole, text: str) -> str:
    """Cut at the quote that would close what the quote behind the gap closes."""
    rest = rest_of_line(hole).lstrip()
    if not rest and hole.kind == "string":
        return _up_to_the_quote_below(hole, text)
    mark = next((mark for mark in (*LONG_QUOTES, *QUOTES) if rest.startswith(mark)), None)
    if mark is None or len(re.findall(rf"(?<!\\)(?:\\\\)*{mark}", text)) % 2 == 0:
        return text
    open_here = without_literals(head_of(hole), language_of(hole.language)).count(mark) % 2
    within = open_here or (hole.kind == "string" and mark in LONG_QUOTES)
    cut = text[: text.rindex(mark)]
    return cut if (within or text.endswith(mark)) and imbalance(hole, cut) <= imbalance(hole, text) else text


def _up_to_the_quote_below(hole: Hole, text: str) -> str:
    """Without the long quote that leads the next line too, unless that line holds a whole literal."""
    below = next_line(hole).lstrip()
    mark = next((mark for mark in LONG_QUOTES if below.startswith(mark)), None)
    if mark is None or below.count(mark) % 2 == 0:
        return text
    closing = list(re.finditer(rf"(?<!\\)(?:\\\\)*({mark})", text))
    return text[: closing[0].start(1)] if len(closing) % 2 else text


def comment_end(hole: Hole, text: str) -> str:
    """A comment is not closed twice."""
    if hole.kind != "comment":
        return text
    for start, end in language_of(hole.language).block_comments:
        # Behind the next comment's start the end is that comment's.
        if end in text and end in hole.suffix.partition(start)[0]:
            return text[: text.index(end)].rstrip()
    return text


def closers(hole: Hole, text: str) -> str:
    """Drop closing marks that the fill did not open and that stand behind it already."""
    return drop_closers(hole, text, language_of(hole.language))


def list_end(hole: Hole, text: str) -> str:
    """A list does not end before the items below the gap."""
    return within_list(hole, text, language_of(hole.language))


def overlap(hole: Hole, text: str) -> str:
    """Drop the longest tail of the fill that the rest of the line begins with, unless the line needs it.

    One character only where the line is out of balance with it.
    """
    line = rest_of_line(hole)
    # A whole line put before another may end as that one ends.
    body = text.rstrip("\n") if line.strip() and text.rstrip("\n").endswith(line.rstrip()) else text
    for rest in (line, line.lstrip()):
        for size in range(min(len(rest), len(body)), 0, -1):
            if body.endswith(rest[:size]) and _is_repeated(hole, body, rest, size):
                return body[:-size]
    return text


def _is_repeated(hole: Hole, text: str, rest: str, size: int) -> bool:
    """Whether the fill's last characters, with which the rest of the line begins, stand there twice by mistake."""
    tail, cut = rest[:size], len(text) - size
    with_it, without = imbalance(hole, text), imbalance(hole, text[:cut])
    if size == 1 or not tail.strip(CLOSING):
        return without < with_it and not tail.strip(MARKS + " ")
    if without > with_it or not tail.strip():
        return False
    if re.match(r"\w\w", rest[size - 1 : size + 1]) and (size < 3 or not re.search(r"\W", tail)):
        return False
    in_a_word = cut and re.match(r"\w\w", text[cut - 1 : cut + 1])
    gap_in_a_word = re.search(r"\w\Z", head_of(hole)) and re.match(r"\w", text) and rest == rest_of_line(hole)
    return not in_a_word or size == len(rest.rstrip()) or bool(gap_in_a_word)


def imbalance(hole: Hole, text: str) -> int:
    """Marks and quotes on the gap's lines that nothing matches, were the text inserted."""
    language = language_of(hole.language)
    filled = head_of(hole) + text + rest_of_line(hole)
    closing, opened = unmatched(marks(filled, language))
    left = without_literals(filled, language)
    # A text of several lines begins or ends here: its quotes need no match on the line.
    long = any(filled.count(mark) % 2 for mark in LONG_QUOTES[:2])
    return len(closing) + len(opened) + (0 if long else sum(left.count(mark) for mark in QUOTES))


def punctuation(hole: Hole, text: str) -> str:
    """Drop one comma, colon, semicolon or closing angle at the fill's end that stands behind it already."""
    rest, last = rest_of_line(hole).lstrip(), text.rstrip()[-1:]
    if not last or not rest.startswith(last):
        return text
    if last in PUNCTUATION and not re.match(r":[:\w]", rest):
        return text.rstrip()[:-1]
    if last in ".!?" and hole.kind in ("string", "comment"):
        return text.rstrip()[:-1]
    angles = re.sub(r"[-=]>|<=|>=", "", head_of(hole) + text + rest)
    closes = last == ">" and not text.rstrip()[-2:-1].isspace() and angles.count("<") < angles.count(">")
    return text.rstrip()[:-1] if closes else text


def head_of(hole: Hole) -> str:
    """What stands before the gap on its line."""
    return hole.prefix[hole.prefix.rfind("\n") + 1 :]


def rest_of_line(hole: Hole) -> str:
    """What stands behind the gap on its line."""
    return hole.suffix.split("\n", 1)[0]


def next_line(hole: Hole) -> str:
    """The next line below the gap's that is not blank."""
    return next((line for line in hole.suffix.split("\n")[1:] if line.strip()), "")


def trailing_space(hole: Hole, text: str) -> str:
    """No blanks at the fill's end, but before more code; a line put before another keeps its one line end."""
    stripped, following = text.rstrip(), rest_of_line(hole)[:1]
    if before_a_line(hole):
        return stripped + "\n" if stripped and text.endswith("\n") else stripped
    return stripped if following.strip() in ("", *PAIRS, ",", ":", ";") else text


def already_there(hole: Hole, text: str) -> str:
    """Nothing, where the rest of the line begins with the fill, or where the next lines are the filled lines."""
    fill, head, rest = text.strip(), head_of(hole), rest_of_line(hole).strip()
    in_a_word = re.search(r"\w\Z", fill) and re.match(r"\w", rest[len(fill) :])
    if rest.startswith(fill) and not in_a_word and fill.strip(CLOSING):
        return ""
    if head.strip() or rest:
        return text
    filled = [line.rstrip() for line in (head + text).rstrip().split("\n")]
    below = [line.rstrip() for line in hole.suffix.lstrip("\n").split("\n")]
    # Two lines that are there already are no accident, whatever follows them.
    same = filled[:2] if len(filled) > 2 else filled
    return "" if below[: len(same)] == same else text


def line_above_again(hole: Hole, text: str) -> str:
    """Nothing, where the fill is the line above once more, or begins with the header of the block that it is in."""
    above = next((line for line in reversed(hole.prefix.split("\n")[:-1]) if line.strip()), "")
    fill = (head_of(hole) + text).rstrip("\n")
    first = fill.partition("\n")[0]
    if first.strip(" \t,;") != above.strip(" \t,;") or len(re.findall(r"\w", first)) < TELLING:
        return text
    inside = width(first) > width(above) and OPENS.search(above)
    return "" if inside or fill == above else text


def import_again(hole: Hole, text: str) -> str:
    """Nothing, where the fill makes an import that the file's first level has already."""
    line = head_of(hole) + text.rstrip("\n") + rest_of_line(hole).rstrip()
    if "\n" in line or not language_of(hole.language).imports or not IMPORT.match(line):
        return text
    others = (*hole.prefix.split("\n")[:-1], *hole.suffix.split("\n")[1:])
    return "" if line in map(str.rstrip, others) else text


FILTERS: tuple[Callable[[Hole, str], str], ...] = (
    plain_lines,
    up_to_a_token,
    unfenced,
    head_again,
    one_blank,
    same_indent,
    own_indent,
    first_line,
    circles,
    repeated_lines,
    overlap,
    quote,
    comment_end,
    closers,
    list_end,
    within_scope,
    punctuation,
    trailing_space,
    already_there,
    next_line_again,
    line_above_again,
    import_again,
    whole_words,
    before_code,
)
