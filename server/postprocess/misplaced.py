"""Fills that do not fit where they stand: the next line once more, half of a word, code before code on its line."""

from __future__ import annotations

import re

from midspan.engine.api import Hole

# The least letters or digits of a line that is not expected twice in a row.
TELLING = 2
ONLY_CLOSES = re.compile(r"\W*(?:</[^<>]*>|\b(?:end|fi|done|esac|until)\b|\W)*\Z")
CODE = re.compile(r"[\w\"'`@#]")
# A backslash at a line's end joins it to the next one in these.
JOINS_LINES = frozenset(("python", "c", "cpp", "bash", "ruby"))


def next_line_again(hole: Hole, text: str) -> str:
    """Nothing, where the filled line is the next line below once more, but for a comma at its end."""
    rest, _, below = hole.suffix.partition("\n")
    below = next((line for line in below.split("\n") if line.strip()), "")
    filled = hole.prefix[hole.prefix.rfind("\n") + 1 :] + text + rest
    if hole.kind == "span" or "\n" in filled or len(re.findall(r"\w", below)) < TELLING or ONLY_CLOSES.match(below):
        return text
    return "" if filled.rstrip(" \t,;") == below.rstrip(" \t,;") else text


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
