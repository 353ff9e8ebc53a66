"""Short literals that look drawn at random, told from words, names and paths by how few of their letters form words."""

from __future__ import annotations

import re
from itertools import pairwise

LEAST, MOST = 12, 64
DRAWN = re.compile(rf"(?P<quote>[\"'`])(?P<value>[\w+/-]{{{LEAST},{MOST}}}={{0,2}})(?P=quote)", re.ASCII)
SIGNS = re.compile(r"[_/+-]")
# A word, an abbreviation, a number, or else one character.
PIECE = re.compile(r"[A-Z][a-z]{2,}|[a-z]{3,}|[A-Z]{2,}(?![a-z])|\d+|.")
LEAST_PIECES = 6
# By which kinds of characters there are: the shortest text, and the least pieces a character. Measured: see the tests.
ALL_KINDS, BOTH_CASES, WITH_FIGURES = (LEAST - 2, 0.5), (16, 0.5), (15, 0.4)


def has_drawn_literal(line: str) -> bool:
    """Whether a literal of a line, by itself, is one that nobody would have thought of."""
    return any(is_drawn(found["value"]) for found in DRAWN.finditer(line))


def is_drawn(value: str) -> bool:
    """Whether a text of letters, figures and base64's signs looks drawn at random."""
    text = SIGNS.sub("", value.rstrip("="))
    if 5 * (len(value.rstrip("=")) - len(text)) > len(value) or text.isdigit() or _runs_on(text):
        return False
    figures = sum(letter.isdigit() for letter in text)
    both = any(map(str.islower, text)) and any(map(str.isupper, text))
    least, share = (ALL_KINDS if figures else BOTH_CASES) if both else WITH_FIGURES
    if len(text) < least or (not both and figures < 2):
        return False
    pieces = len(PIECE.findall(text))
    return pieces >= max(LEAST_PIECES, share * len(text))


def _runs_on(text: str) -> bool:
    """Whether most characters follow the one before or repeat it: an alphabet, or padding."""
    return 2 * sum(ord(after) - ord(one) in (0, 1) for one, after in pairwise(text)) > len(text)
