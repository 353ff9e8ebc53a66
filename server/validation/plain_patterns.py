"""Which regular expressions of a file that nobody vouches for may be matched at all."""

from __future__ import annotations

import re
from functools import lru_cache

MOST_PATTERN_CHARS = 300


@lru_cache(256)
def is_plain(pattern: str) -> bool:
    """Whether a pattern is one that Python reads and that cannot take long on a short text."""
    repeats: list[str] = re.findall(r"(?<!\()[*+?{]", pattern)
    if len(pattern) > MOST_PATTERN_CHARS or re.search(r"\)[*+{]", pattern) or len(repeats) > 5:
        return False
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return sum(one != "?" for one in repeats) <= 2
