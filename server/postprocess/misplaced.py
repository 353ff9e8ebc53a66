"""Fills that do not fit where they stand: the next line once more, half of a word, code before code on its line."""

from __future__ import annotations

import re
from collections.abc import Iterator

from midspan.engine.api import Hole
from midspan.server.postprocess.brackets import LINES_BELOW, marks, unmatched
from midspan.server.text.languages import Language, language_of, literals_of

# The least letters or digits of a line that is not expected twice in a row.
TELLING = 2
# Over so many lines, less one, a line may go on to be compared as a whole.
LINES_OF_ONE = 9
ONLY_CLOSES = re.compile(r"\W*(?:</[^<>]*>|\b(?:end|fi|done|esac|until)\b|\W)*\Z")
CODE = re.compile(r"[\w\"'`@#]")
# A backslash at a line's end joins it to the next one in these.
JOINS_LINES = frozenset(("python", "c", "cpp", "bash", "ruby"))


def next_line_again(hole: Hole, text: str) -> str:
    """Nothing, where the filled line says what the next line below says, whatever the layout of either."""
    rest, _, below = hole.suffix.partition("\n")
    filled = hole.prefix[hole.prefix.rfind("\n") + 1 :] + text + rest
    if hole.kind == "span" or "\n" in filled:
        return text
    language = language_of(hole.language)
    said = _said(hole, filled, language)
    return "" if any(said == _said(hole, line, language) for line in _next_lines(below, language)) else text


def _next_lines(below: str, language: Language) -> Iterator[str]:
    """The next line that is not blank and the one behind comments, each alone and with the lines it goes on over."""
    lines = [line for line in below.split("\n", LINES_BELOW)[:LINES_BELOW] if line.strip()]
    code = next((at for at, line in enumerate(lines) if not line.lstrip().startswith(language.line_comments)), 0)
    for at in dict.fromkeys((0, code)):
        whole = next((end for end in range(at + 1, at + LINES_OF_ONE) if _is_whole(lines[at:end], language)), at + 1)
        for line in dict.fromkeys((*lines[at : at + 1], " ".join(map(str.rstrip, lines[at:whole])))):
            if len(re.findall(r"\w", line)) >= TELLING and not ONLY_CLOSES.match(line):
                yield line


def _is_whole(lines: list[str], language: Language) -> bool:
    return not unmatched(marks("\n".join(lines), language))[1]


def _said(hole: Hole, line: str, language: Language) -> str:
    """A line without its layout: comments, kinds of quotes, blanks between signs, and what ends the list around it."""
    if hole.kind in ("string", "comment"):
        return line.rstrip(" \t,;")
    comments = (one for one in literals_of(language).finditer(line) if one[0].startswith(language.line_comments))
    code = line[: next((one.start() for one in comments), len(line))] if language.line_comments else line
    if not code.strip():
        return line.rstrip()
    closing = unmatched(marks(code, language))[0]
    if closing and not re.search(r"\w", code[closing[0].at :]):
        code = code[: closing[0].at]
    indent = len(code) - len(code.lstrip())
    bare = re.sub(r"\s*([^\w\s])\s*", r"\1", code[indent:].rstrip(" \t,;").replace("'", '"'))
    return code[:indent] + re.sub(r",([)\]}])", r"\1", re.sub(r"\s+", " ", bare))


def whole_words(hole: Hole, text: str) -> str:
    """Nothing, where the fill and the letters behind it make a word that the text around does not have."""
    tail = re.match(r"\w+", hole.suffix)
    before = re.search(r"\w*\Z", hole.prefix + text)
    if hole.kind == "span" or tail is None or before is None:
        return text
    in_a_word = re.search(r"\w\Z", hole.prefix)
    if not before[0] and not in_a_word:
        return text
    if before[0].isdigit():
        return text  # a number, and its unit behind it
    word, around = before[0] + tail[0], f"{hole.prefix}\n{hole.suffix[tail.end() :]}"
    return text if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", around) else ""


def before_code(hole: Hole, text: str) -> str:
    """Before code on its line there is room for a whole line only."""
    return "" if _stands_before_code(hole) and (hole.prefix[-1:] not in ("", "\n") or text[-1:] != "\n") else text


def nothing_fits(hole: Hole) -> bool:
    """Whether no fill can be right: within the indent of a line with code, or behind a backslash at a line's end."""
    if _stands_before_code(hole) and hole.prefix[-1:] not in ("", "\n"):
        return True
    joins = hole.language in JOINS_LINES and hole.kind != "comment" and not hole.suffix.partition("\n")[0].strip()
    backslashes = re.search(r"\\*\Z", hole.prefix)
    return joins and backslashes is not None and len(backslashes[0]) % 2 == 1


def _stands_before_code(hole: Hole) -> bool:
    head = hole.prefix[hole.prefix.rfind("\n") + 1 :]
    rest = hole.suffix.partition("\n")[0].lstrip(" \t")
    return hole.kind in ("rest_of_line", "line", "block") and not head.strip() and CODE.match(rest) is not None
