"""Reads and writes `midspan.json`: a checkpoint's own settings, every value checked against its bounds."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from midspan.engine.api import CheckpointError
from midspan.engine.settings import CHAT_LAYOUTS, NO_FILLER, RELEASED, RELEASED_BY_LAYOUT, CheckpointSettings
from midspan.engine.weights.old_keys import renamed
from midspan.engine.weights.typed_json import KeyProblem, decode, read_object

log = logging.getLogger(__name__)

NAME = "midspan.json"
# Canvases of one batch: draws of every gap length.
MOST_CANVASES = 256


def read_settings(folder: Path) -> CheckpointSettings:
    """Read `midspan.json`; a checkpoint without one is taken for the released one. Old keys are named in the log.

    Raises CheckpointError, with one line that names the file, the key and what is allowed.
    """
    file, told = folder / NAME, dict[str, str]()
    try:
        values, told = renamed(_read(folder))
        settings = settings_of(values)
    except KeyProblem as problem:
        raise CheckpointError(f"{file}: {_as_written(problem, told)}") from problem
    if told:
        log.warning("%s has old keys, which are read until the next release: %s", file, "; ".join(_news(told)))
    return settings


def old_keys(folder: Path) -> tuple[str, ...]:
    """Which keys of a `midspan.json` are old, each as `beams is now hypotheses.beams`. Raises CheckpointError."""
    try:
        return _news(renamed(_read(folder))[1])
    except KeyProblem as problem:
        raise CheckpointError(f"{folder / NAME}: {problem}") from problem


def settings_of(values: Mapping[str, Any]) -> CheckpointSettings:
    """An object with today's keys as settings, what a chat's layout leaves out as in the release.

    Raises KeyProblem.
    """
    settings = decode(CheckpointSettings, _with_defaults(values))
    if (conflict := _conflict(settings)) is not None:
        raise KeyProblem(*conflict)
    return settings


def write_settings(folder: Path, **groups: Mapping[str, object]) -> None:
    """Put values into groups of the folder's `midspan.json`; its other values stay, under today's keys."""
    file = folder / NAME
    values, _ = renamed(read_object(file))
    merged = {**values, **{name: {**values.get(name, {}), **group} for name, group in groups.items()}}
    file.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")


def _read(folder: Path) -> dict[str, Any]:
    """The file's object, or what stands for the released checkpoint."""
    file = folder / NAME
    return read_object(file) if os.path.lexists(file) else {"layout": {"kind": "prompted"}}


def _news(told: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{old} is now {new}" for new, old in told.items())


def _with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The object, with the release's values where one of its layouts leaves a key out."""
    layout = values.get("layout")
    kind = layout.get("kind") if isinstance(layout, dict) else None
    if not isinstance(kind, str) or kind not in RELEASED_BY_LAYOUT:
        return dict(values)
    of_kind, out = RELEASED_BY_LAYOUT[kind], dict(values)
    for name in RELEASED:
        if isinstance(given := values.get(name, {}), dict):
            out[name] = {**RELEASED[name], **of_kind.get(name, {}), **given}
    return out


def _conflict(settings: CheckpointSettings) -> tuple[str, str] | None:
    """A key, each of whose values would do by itself, and why it does not fit the others; None where all fit."""
    layout, bias, early = settings.layout, settings.hypotheses.length_bias, settings.show.early_exit
    lengths = len(layout.slots) + len(layout.block_slots)
    for name, slots in (("slots", layout.slots), ("block_slots", layout.block_slots)):
        if any(one >= other for one, other in pairwise(slots)):
            return f"layout.{name}", "is not in order; give each length once, the shortest first"
        if layout.kind == "prompted" and len(slots) > 1:
            return f"layout.{name}", f"has {len(slots)} lengths; give one, as layout.kind is prompted"
        if len(slots) * settings.denoise.draws > MOST_CANVASES:
            canvases = f"are {len(slots) * settings.denoise.draws} canvases with layout.{name}"
            return "denoise.draws", f"{canvases}; give fewer, for {MOST_CANVASES} at most"
    if layout.kind in CHAT_LAYOUTS and layout.filler_id != NO_FILLER:
        return "layout.filler_id", f"is {layout.filler_id}; leave it out, as layout.kind {layout.kind} has no filler"
    if layout.kind not in CHAT_LAYOUTS and layout.filler_id == NO_FILLER:
        return "layout.filler_id", f"is missing or {NO_FILLER}; give the filler's id, as layout.kind is {layout.kind}"
    if layout.kind == "fim" and layout.context_tokens:
        return "layout.context_tokens", f"is {layout.context_tokens}; give 0, as layout.kind is fim"
    if bias and len(bias) != lengths:
        return "hypotheses.length_bias", f"has {len(bias)} numbers for {lengths} lengths; fit it again"
    if early is not None and early.reject > early.accept:
        return "show.early_exit.reject", f"is above accept, {early.accept}; give at most that"
    return None


def _as_written(problem: KeyProblem, told: Mapping[str, str]) -> str:
    """The sentence about a key, which is called as the file has it."""
    for new, old in told.items():
        if problem.key == new or problem.key.startswith((f"{new}.", f"{new}[")):
            return f"{old} (now {problem.key}) {problem.problem}"
    return str(problem)
