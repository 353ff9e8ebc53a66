"""A document with a text in place of a span, as validators read it, and what one of them objects to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

# What telemetry counts; it holds no word of anybody's code.
Kind = Literal["name", "schema", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a text is not shown by itself: `kind` for counting, `words` for the person whose file it is.

    The words may quote the file, so they reach `midspan.why` and nothing that is stored or logged.
    """

    kind: Kind
    words: str


@dataclass(frozen=True, kw_only=True)
class Splice:
    """The text of a document before a span, what replaces the span, and the text behind it.

    `folders` are open, `patience_s` is how long a validator may wait for a file of theirs.
    """

    uri: str
    before: str
    fill: str
    after: str
    folders: Sequence[Path] = ()
    patience_s: float = 0.0

    @cached_property
    def text(self) -> str:
        """The whole text with the fill in it."""
        return self.before + self.fill + self.after
