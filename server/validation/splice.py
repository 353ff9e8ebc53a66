"""A document with a text in place of a span, as validators read it, and what one of them objects to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

# What telemetry counts; it holds no word of anybody's code.
Kind = Literal["parse", "name", "schema", "table"]
# Enough to read a small file; a keystroke waits no longer, and the next one finds it read.
PATIENCE_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a text is not shown by itself: `kind` for counting, `words` for the person whose file it is.

    The words may quote the file, so they reach `midspan.why` and nothing that is stored or logged. `spans` are the
    characters [begin, end) of the text that are wrong; none where that cannot be said.
    """

    kind: Kind
    words: str
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What validators may read: files in `folders`, which are open, each waited for at most `patience_s`.

    `schemas` are those that the user names, by patterns of the files that they are for.
    """

    folders: Sequence[Path] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)
    patience_s: float = PATIENCE_S


NO_FOLDERS = Files()


@dataclass(frozen=True, kw_only=True)
class Splice:
    """The text of a document before a span, what replaces the span, and the text behind it."""

    uri: str
    before: str
    fill: str
    after: str
    files: Files = NO_FOLDERS

    @cached_property
    def text(self) -> str:
        """The whole text with the fill in it."""
        return self.before + self.fill + self.after

    def of_fill(self, begin: int, end: int) -> tuple[tuple[int, int], ...]:
        """Characters [begin, end) of the whole text as a span of the fill; none where the fill has none of them."""
        shift = len(self.before)
        begin, end = max(0, begin - shift), min(len(self.fill), end - shift)
        return ((begin, end),) if begin < end else ()
