"""Which documents nothing is offered in: their text may be in no prompt, by their names, by the user, or by git."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from midspan.server.excluded import is_excluded
from midspan.server.ignored import Ignored
from midspan.server.index import key_of


def is_kept_out(uri: str, patterns: Sequence[str]) -> bool:
    """Whether a document is excluded, or is a file that git ignores; `patterns` are the user's, see excluded.py."""
    return is_excluded(uri, patterns) or _is_ignored(uri)


def forget_rules() -> None:
    """Read git's rules again at the next question."""
    _is_ignored.cache_clear()


@lru_cache(maxsize=1024)
def _is_ignored(uri: str) -> bool:
    path = Path(key_of(uri))
    return path.is_absolute() and Ignored(path.parent)(path)
