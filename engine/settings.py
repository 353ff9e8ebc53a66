"""`midspan.json` beside a checkpoint's config: how this checkpoint wants its gaps laid out, and its calibration."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from midspan.engine.api import CheckpointError

# Left-over slots of a canvas hold filler; or filler parts suffix and prefix, and the gap is written behind both.
LAYOUTS = ("filler", "fim")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """One checkpoint's own settings; token counts, temperatures and logistic weights.

    `calibration` holds the bias and the weights of candidates.FEATURES; confidence is their logistic.
    """

    layout: str
    filler_id: int
    slots: tuple[int, ...]
    block_slots: tuple[int, ...]
    draws: int
    keep: int
    prefix_tokens: int
    reuse_suffix: bool
    steps: int
    t_min: float
    t_max: float
    entropy_bound: float
    confidence_threshold: float
    languages: tuple[str, ...]
    show_threshold: float
    calibration: tuple[float, ...]


def read_settings(folder: Path) -> CheckpointSettings:
    """Read `midspan.json`. Raises CheckpointError naming the file and what is wrong with it."""
    file = folder / "midspan.json"
    if not file.is_file():
        raise CheckpointError(f"{file}: missing; it says how the checkpoint lays out a gap (see ARCHITECTURE.md)")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not valid JSON ({error}); restore it from the checkpoint's source") from error
    names = {field.name for field in fields(CheckpointSettings)}
    if not isinstance(values, dict) or values.keys() != names:
        wrong = sorted(names ^ set(values)) if isinstance(values, dict) else "not an object"
        raise CheckpointError(f"{file}: missing or unknown keys {wrong}; it must have exactly {sorted(names)}")
    if values["layout"] not in LAYOUTS:
        known = " and ".join(map(repr, LAYOUTS))
        raise CheckpointError(f"{file}: layout {values['layout']!r} is not supported; this version knows {known}")
    kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return CheckpointSettings(**kept)
