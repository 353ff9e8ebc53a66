"""`midspan calibrate`: what the record proposes, what that would have done; to take it, and to go back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from midspan.engine.api import Engine
from midspan.server.calibration.counts import read_counts
from midspan.server.calibration.proposal import calibration_of, missing, propose
from midspan.server.checkpoint_watch import digest_of
from midspan.server.commands.errors import CommandError
from midspan.server.models.configuration import read_configuration, write_configuration
from midspan.server.report.terminal import percent
from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.text.syntax_check import load_with_syntax

NEXT = "restart midspan in editors that are open"
GO_ON = "take it with: midspan calibrate --apply"
GO_BACK = "go back with: midspan calibrate --undo"
Found = dict[str, Any]


def calibrate_command(arguments: argparse.Namespace, load: Callable[[str, str], Engine] = load_with_syntax) -> int:
    """Propose and print; with --apply also write, with --undo only take away what was written."""
    checkpoint: str = arguments.checkpoint
    if not (digest := digest_of(checkpoint)):
        raise CommandError(f"{checkpoint}: no files of its own here; give --checkpoint a folder or a GGUF file")
    file: Path = arguments.configuration
    if arguments.undo:
        configuration = read_configuration(file)
        if digest not in configuration.calibrations:
            raise CommandError(f"{checkpoint}: nothing was applied to it; midspan calibrate --apply does")
        left = {key: one for key, one in configuration.calibrations.items() if key != digest}
        write_configuration(file, replace(configuration, calibrations=left))
        print(f"{checkpoint} has its shipped threshold again; {NEXT}")
        return 0
    counts = read_counts(arguments.state_dir / FILE_NAME, digest)
    proposals = propose(counts, lambda: _shipped(load, arguments), arguments.worth)
    effects = [one.effect() for one in proposals]
    thin = {name: lack for name, each in counts.items() if (lack := missing(each)) is not None}
    if arguments.apply:
        configuration = read_configuration(file)
        applied = {**configuration.calibrations, digest: calibration_of(proposals)}
        write_configuration(file, replace(configuration, calibrations=applied))
    found = {"checkpoint": checkpoint, "digest": digest, "worth": arguments.worth, "effects": effects, "too_thin": thin}
    found["applied"] = arguments.apply
    print(json.dumps(found) if arguments.json else "\n".join(as_text(found)))
    return 0


def as_text(found: Found) -> Iterator[str]:
    """The lines: a block for all languages, and one for each of which there is enough."""
    yield f"{found['checkpoint']}, from your own record; what is taken {percent(found['worth'])} of the time is shown"
    for effect in found["effects"]:
        yield ""
        yield from _block(effect)
    for language, lack in found["too_thin"].items():
        yield ""
        yield f"{language}: by that of all languages, as there is too little of its own: {lack}"
    yield ""
    yield f"applied; {NEXT}; {GO_BACK}" if found["applied"] else GO_ON


def _block(effect: Found) -> Iterator[str]:
    change = f"show_threshold {effect['shipped']:.2f} -> {effect['threshold']:.2f}"
    yield f"{effect['language'] or 'all languages':16} {change}"
    for name, key in (
        ("were seen", "seen"),
        ("would stay", "would_stay"),
        ("would go", "would_go"),
        ("would come", "would_come"),
    ):
        part = effect[key]
        taken = ""
        if part["count"]:
            low, high = part["ci95"]
            verb = "by the fit, taken" if key == "would_come" else "taken"
            taken = f", {verb} {percent(part['taken'])} ({100 * low:.0f} to {100 * high:.0f})"
        yield f"  {name:14} {part['count']:>9,}{taken}"


def _shipped(load: Callable[[str, str], Engine], arguments: argparse.Namespace) -> float:
    """The threshold that the checkpoint was shipped with."""
    engine = load(arguments.checkpoint, arguments.device)
    try:
        return engine.about.show_threshold
    finally:
        engine.close()
