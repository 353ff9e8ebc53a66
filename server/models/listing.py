"""What `midspan models` prints: as JSON for editors, and as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midspan.server.models.at_hand import AtHand, Found
from midspan.server.models.catalogue import EMBEDDED, Known, catalogue
from midspan.server.models.configuration import Choice
from midspan.server.models.estimate import HOW
from midspan.server.models.machine import Machine
from midspan.server.models.recommend import fits, recommended

MOST_CELL = 44
COLUMNS = ("  name", "family", "parameters", "size", "licence", "languages", "a fill")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All that is known; `fill_ms` has the estimated milliseconds of a fill by the name of a model."""

    hand: AtHand
    machine: Machine
    choice: Choice
    fill_ms: Mapping[str, float]

    @property
    def best(self) -> str:
        """The name of the recommended model."""
        return recommended(self.machine, catalogue().values(), self.fill_ms)

    @property
    def absent(self) -> list[Known]:
        """What can be fetched and is not at hand."""
        there = {one.name for one in self.hand.models if one.problem is None}
        return [one for one in catalogue().values() if one.name not in there]


def as_json(listing: Listing) -> dict[str, Any]:
    """The listing for editors."""
    return {
        "machine": {
            "memory": listing.machine.memory,
            "cores": listing.machine.cores,
            "gpu": listing.machine.gpu,
            "gpu_memory": listing.machine.gpu_memory,
        },
        "chosen": {"checkpoint": listing.choice.checkpoint, "by": listing.choice.by},
        "recommended": {"name": listing.best, "get": _get(listing)},
        "at_hand": [_found_json(one, listing) for one in listing.hand.models],
        "to_fetch": [_known_json(one, listing) for one in listing.absent],
        "notes": list(listing.hand.notes),
    }


def _found_json(one: Found, listing: Listing) -> dict[str, Any]:
    glance = one.glance
    return {
        "name": one.name,
        "checkpoint": one.checkpoint,
        "program": one.program,
        "family": glance and glance.family,
        "parameters": glance and glance.parameters,
        "bytes": glance and glance.bytes,
        "licence": one.licence,
        "terms": one.known and one.known.terms,
        "languages": list(glance.languages) if glance else [],
        "fill_ms": listing.fill_ms.get(one.name),
        "problem": one.problem,
        "chosen": one.checkpoint == listing.choice.checkpoint,
    }


def _known_json(one: Known, listing: Listing) -> dict[str, Any]:
    return {
        "name": one.name,
        "family": one.family,
        "repository": one.repository,
        "file": one.file,
        "bytes": one.about_bytes,
        "parameters": one.parameters,
        "licence": one.licence,
        "terms": one.terms,
        "languages": one.languages,
        "fill_ms": listing.fill_ms.get(one.name),
        "fits": fits(one, listing.machine),
        "get": f"midspan models get {one.name}",
    }


def _get(listing: Listing) -> str | None:
    """The command that fetches the recommended model; None if it is at hand."""
    return f"midspan models get {listing.best}" if listing.best in {one.name for one in listing.absent} else None


def as_text(listing: Listing) -> str:
    """A line a model, what runs first, and what to do next."""
    hand, notes = listing.hand.models, listing.hand.notes
    runs = [_found_row(one, listing) for one in hand if one.problem is None]
    unfit = [
        f"  {plain(one.name)} ({one.program}): {plain(one.problem, 160)}" for one in hand if one.problem is not None
    ]
    away = [_known_row(one, listing) for one in listing.absent]
    lines = ["At hand:", *_table([(*COLUMNS, "kept by"), *runs])]
    if unfit:
        lines += ["", "At hand, but midspan does not run them:", *unfit]
    if away:
        lines += ["", "To be fetched, with midspan models get NAME:", *_table([(*COLUMNS, ""), *away])]
    if notes:
        lines += ["", "Note:", *(f"  {plain(note, 200)}" for note in notes)]
    if listing.fill_ms:
        lines += ["", f"A fill's time is an estimate: {HOW}."]
    return "\n".join([*lines, "", *_advice(listing)])


def _found_row(one: Found, listing: Listing) -> list[str]:
    glance = one.glance
    mark = "*" if one.checkpoint == listing.choice.checkpoint else " "
    return [
        f"{mark} {plain(one.name)}",
        plain((glance and glance.family) or "?"),
        parameters(glance.parameters if glance else 0),
        size(glance.bytes if glance else 0),
        plain(one.licence or "licence not stated", 24),
        _languages(glance.languages if glance else ()),
        took(listing.fill_ms.get(one.name)),
        one.program,
    ]


def _known_row(one: Known, listing: Listing) -> list[str]:
    licence = one.licence if one.terms is None else f"{one.licence}, {one.terms}"
    name = f"  {one.name}"
    known = [name, one.family, parameters(one.parameters), size(one.about_bytes), licence, one.languages]
    return [
        *known,
        took(listing.fill_ms.get(one.name)),
        "" if fits(one, listing.machine) else "too large for this machine",
    ]


def _advice(listing: Listing) -> list[str]:
    choice = listing.choice
    gone = ", which is gone" if choice.is_gone else ""
    lines = [f"In use (*): {plain(choice.checkpoint, 200)}{gone}, by {plain(choice.by, 200)}"]
    reason = ", as larger ones are too large or too slow here" if listing.best == EMBEDDED else ""
    why = f"Recommended here ({listing.machine}): {listing.best}{reason}"
    if (get := _get(listing)) is not None:
        return [*lines, f"{why}; it is not at hand, fetch it with: {get}"]
    if any(one.name == listing.best and one.checkpoint == choice.checkpoint for one in listing.hand.models):
        return [*lines, f"{why}; it is in use"]
    return [*lines, f"{why}; take it with: midspan models use {listing.best}"]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows in columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _languages(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} languages"


def parameters(count: int) -> str:
    """A number of parameters as people say it."""
    if not count:
        return "?"
    return f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"


def size(count: int) -> str:
    """Bytes as people say it."""
    if not count:
        return "?"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def took(milliseconds: float | None) -> str:
    """An estimate, to the two digits that it is good for."""
    if milliseconds is None:
        return ""
    rounded = float(f"{milliseconds:.1e}")
    return f"about {rounded / 1000:g} s" if rounded >= 1000 else f"about {rounded:g} ms"


def plain(text: str, most: int = MOST_CELL) -> str:
    """A text of another program's on one line: no character that a terminal would obey."""
    shown = "".join(one if one.isprintable() else "?" for one in text)
    return shown if len(shown) <= most else shown[: most - 3] + "..."
