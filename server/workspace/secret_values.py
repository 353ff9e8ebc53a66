"""What a literal holds: a secret, something drawn at random, or a placeholder."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

from midspan.server.workspace.secret_patterns import HARMLESS, LITERAL

LITERALS = re.compile(LITERAL)
RUN = re.compile(r"[\w+/=-]{20,}", re.ASCII)
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
WORD = re.compile(r"[^\W\d_]+")
HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
PUT_IN = re.compile(r"\$?\{[^}]*\}|\$\(?\w+\)?|%(?:\(\w+\))?[a-z]|<[^>]*>|\[[A-Z_]+\]")
CODE = re.compile(r"\\(?:x|u00)([0-9a-fA-F]{2})")
ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3}|.)")
PATH = re.compile(r"(?:~|\.{0,2})/[\w.-]+(?:/[\w.-]*)+|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){2,}|\d+(?:\.\d+)+")
# How a wallet's words stand: of a sentence some are shorter.
SEED_PHRASE = re.compile(r"(?:[a-z]{3,8} ){11,23}[a-z]{3,8}")


def is_value(value: str, kind: str) -> bool:
    """Whether a literal that a name of this kind is set to is a secret, and no placeholder."""
    if _is_random(value) or is_binary(value, 8 if kind == "key" else 2):
        return True
    if kind == "key" or is_harmless(value):
        return False
    if kind == "weak":
        return len(value) >= 8 and " " not in value and any(letter.isdigit() for letter in value)
    return True


def is_harmless(value: str) -> bool:
    """Whether a text is a placeholder, the name of a field, a path, an address or a sentence."""
    left = PUT_IN.sub("", value).strip()
    if SEED_PHRASE.fullmatch(left):
        return False
    if len(ESCAPE.sub(".", left)) < 3 or len(set(left.lower())) == 1 or not any(letter.isalnum() for letter in left):
        return True
    words = [word.lower() for part in WORD.findall(left) for word in HUMP.split(part)]
    has_digit = any(letter.isdigit() for letter in left)
    if not has_digit and all(word in HARMLESS for word in words):
        return True
    if len(left.split()) >= 3 and (left[-1] in ".:?!," or left != value.strip() or HARMLESS.intersection(words)):
        return True
    return "://" in left or PATH.fullmatch(left) is not None


def is_binary(value: str, least: int) -> bool:
    """Whether a literal stands for at least so many bytes, many of them escaped."""
    codes = [int(code, 16) for code in CODE.findall(value)]
    escapes = len(codes)
    if 2 * sum(after - code in (0, 1) for code, after in pairwise(codes)) > escapes:
        return False  # an alphabet, or padding
    return escapes >= 2 and escapes * 4 >= len(ESCAPE.sub(".", value)) >= least


def _is_random(text: str) -> bool:
    """Whether a text of 20 characters and more has a part that looks drawn at random: figures among letters."""
    if len(text) < 20 or " " in text:
        return False
    if UUID.search(text) is not None:
        return True
    part = max(re.split(r"[^A-Za-z0-9]+", text), key=len)
    digits = sum(letter.isdigit() for letter in part)
    if len(part) < 16 or digits < 2 or digits == len(part):
        return False
    counts = Counter(part)
    entropy = -sum(count / len(part) * math.log2(count / len(part)) for count in counts.values())
    if re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", part):
        return entropy >= 2.8 and not _is_in_order(part)
    kinds = [letter.isdigit() + 2 * letter.isupper() for letter in part]
    changes = sum(one != other for one, other in pairwise(kinds))
    figures = sum((one == 1) != (other == 1) for one, other in pairwise(kinds))
    return entropy >= 3 and figures >= 3 and changes >= 0.3 * len(part) and not _is_in_order(part)


def _is_in_order(part: str) -> bool:
    """Whether most characters follow the one before: an alphabet."""
    steps = sum(ord(other) - ord(one) == 1 for one, other in pairwise(part))
    return steps * 2 > len(part)


def has_random(line: str) -> bool:
    """Whether a literal holds something that looks drawn at random."""
    first = min((at for at in map(line.find, "\"'`") if at >= 0), default=-1)
    if first < 0:
        return False
    if line.count("\\x") >= 6 and any(is_binary(found["value"], 16) for found in LITERALS.finditer(line)):
        return True
    return any(_is_random(run[0]) for run in RUN.finditer(line, first))
