"""Which documents nothing is offered in: their text may be in no prompt, by their names, by the user, or by git."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from midspan.server.workspace.exclusion import is_excluded
from midspan.server.workspace.ignored import Ignored
from midspan.server.workspace.index import key_of

EXCLUDED = "its name is a secret's or cannot be read, or the setting `exclude` names it"
IGNORED = "git ignores it"


def kept_out_because(uri: str, patterns: Sequence[str]) -> str | None:
    """Why no prompt may hold a document's text, without its name; None where one may.

    `patterns` are the user's, see excluded.py.
    """
    if is_excluded(uri, patterns):
        return EXCLUDED
    return IGNORED if _is_ignored(uri) else None


def forget_rules() -> None:
    """Read git's rules again at the next question."""
    _is_ignored.cache_clear()


@lru_cache(maxsize=1024)
def _is_ignored(uri: str) -> bool:
    path = Path(key_of(uri))
    return path.is_absolute() and Ignored(path.parent)(path)
