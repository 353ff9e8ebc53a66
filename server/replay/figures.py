"""What a replay comes to, for a person and for a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midspan.server.client.typist import percentiles
from midspan.server.replay.person import Run, keys_of
from midspan.server.statistics import quantile


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`keys` count characters and acceptances; one acceptance is one key.

    `saved` is 1 - keys / characters. `shown` counts suggestions, however long each stood, and `taken` those of which
    anything was taken; `acceptance` is their share. `wrong_in_100_keys` counts each key after which something stood
    that was not taken, Enter among the keys. `typed_along` counts keys that ran along a suggestion and left some of it,
    `flickers` those of them after which another text stood there, or none. `late` answers came after the next key. Of
    the suggestions that were taken `first_useful_ms` is the time from request to suggestion, and `first_taken_s` the
    median, over files in which one was taken, of the person's own time until the first.
    """

    files: int
    lines: int
    characters: int
    keys: int
    saved: float
    shown: int
    taken: int
    acceptance: float | None
    wrong_in_100_keys: float
    typed_along: int
    flickers: int
    late: int
    first_useful_ms: dict[str, float] | None
    first_taken_s: float | None
    response_ms: dict[str, float] | None


def figures(run: Run) -> Figures:
    """The figures of a run of at least one line."""
    every = list(keys_of(run))
    lines = sum(session.lines for session in run.sessions)
    characters = sum(session.characters for session in run.sessions)
    shown, taken = {key.id for key in every if key.id}, {key.id for key in every if key.taken}
    firsts = [session.first_taken_s for session in run.sessions if session.first_taken_s is not None]
    # A line's first entry follows Enter.
    keys = len(every) - lines
    return Figures(
        files=len(run.sessions),
        lines=lines,
        characters=characters,
        keys=keys,
        saved=1 - keys / characters,
        shown=len(shown),
        taken=len(taken),
        acceptance=len(taken) / len(shown) if shown else None,
        wrong_in_100_keys=100 * sum(bool(key.shown) and not key.taken for key in every) / len(every),
        typed_along=sum(key.along for key in every),
        flickers=sum(key.changed for key in every),
        late=sum(key.late for key in every),
        first_useful_ms=percentiles(run.useful_ms),
        first_taken_s=quantile(firsts, 0.5) if firsts else None,
        response_ms=percentiles(run.response_ms),
    )


def as_lines(found: Figures) -> Iterator[str]:
    """The figures for a person."""
    typed = f"{found.lines} lines of {found.files} files, {found.characters} characters"
    yield f"{typed}, typed with {found.keys} keys: {100 * found.saved:.1f} % saved"
    share = "" if found.acceptance is None else f", {100 * found.acceptance:.1f} % of them taken, whole or in part"
    yield f"{found.shown} suggestions{share}"
    yield f"wrong on screen after {found.wrong_in_100_keys:.1f} of 100 keys"
    yield f"flicker: {found.flickers} of {found.typed_along} keys that ran along a suggestion changed it"
    yield f"{found.late} answers came after the next key"
    if found.first_useful_ms is not None and found.first_taken_s is not None:
        yield f"time to first useful edit {_times(found.first_useful_ms)}"
        yield f"the first in a file was taken after {found.first_taken_s:.0f} s of typing"
    if found.response_ms is not None:
        yield f"response {_times(found.response_ms)}"


def _times(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {ms} ms" for name, ms in found.items())
