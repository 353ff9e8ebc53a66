"""`midspan doctor`: what runs here, and what a user must fix."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import midspan
from midspan.engine.api import Budget, CheckpointError, DeviceError, Hole
from midspan.server.backends.configured import read_configured
from midspan.server.checkpoint_watch import digest_of
from midspan.server.commands.backends import answered_last, rows_of
from midspan.server.commands.errors import CommandError
from midspan.server.commands.explain import in_time
from midspan.server.commands.round_trip import round_trip
from midspan.server.engine_errors import NOT_LOADED
from midspan.server.lsp.scheduling import wake_soon
from midspan.server.models.configuration import calibrated_there
from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.text.languages import TABLE
from midspan.server.text.syntax_check import load_with_syntax

PACKAGES = ("torch", "tokenizers", "safetensors", "pygls", "lsprotocol", "tree-sitter")
SELF_TEST = Hole(prefix="def add(a, b):\n    return ", suffix="\n\n\nprint(add(1, 2))\n")
PATIENCE_S = 120.0
LOADED = "layout"  # which only a checkpoint that did load has
FITTED, PRIOR = "fitted for this model", "a prior, as nobody fitted one for this model"


def doctor_command(arguments: argparse.Namespace) -> int:
    """Examine, print, and exit 1 when something must be fixed."""
    found = examine(arguments.checkpoint, arguments.device, arguments.state_dir)
    found["chosen_by"] = arguments.chosen_by
    examine_calibration(found, arguments.checkpoint, arguments.configuration)
    examine_engines(found, arguments.engines_file, arguments.state_dir)
    print(json.dumps(found) if arguments.json else as_text(found))
    return 1 if found["fixes"] else 0


def examine(checkpoint: str, device: str, state_dir: Path) -> dict[str, Any]:
    """Everything doctor knows; `fixes` lists what a user must do, empty when all is well."""
    found: dict[str, Any] = {
        "midspan": midspan.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(PACKAGES),
        "state_dir": str(state_dir),
        "keys_first": keys_first(),
        "fixes": [],
    }
    if (problem := unwritable(state_dir)) is not None:
        found["fixes"].append(problem)
    grammars = versions(dict.fromkeys(language.package.replace("_", "-") for language in TABLE))
    found["grammars"] = [one.name for one in TABLE if grammars[one.package.replace("_", "-")] is not None]
    missing = [name for name, installed in (found["packages"] | grammars).items() if installed is None]
    if missing:
        found["fixes"].append(f"not installed: {', '.join(missing)}; run python -m pip install {' '.join(missing)}")
        return found
    try:
        found |= self_test(checkpoint, device, found["fixes"])
        found["round_trip_ms"] = asyncio.run(round_trip(checkpoint, device))
    except (CheckpointError, DeviceError, CommandError) as error:
        found["fixes"].append(str(error))
    except TimeoutError:
        found["fixes"].append(f"no fill within {PATIENCE_S:.0f} s; give a smaller --checkpoint or another --device")
    return found


def examine_calibration(found: dict[str, Any], checkpoint: str, file: Path) -> None:
    """Add the threshold that the user has fitted to this checkpoint, where there is one."""
    calibrations, problem = calibrated_there(file)
    if problem is not None:
        found["fixes"].append(problem)
    if (own := calibrations.get(digest_of(checkpoint))) is not None:
        languages = "".join(f"; {name} {one.threshold:.2f}" for name, one in own.languages.items())
        found["own_threshold"] = f"{own.every.words}{languages}; midspan calibrate --undo goes back"


def examine_engines(found: dict[str, Any], file: Path, state_dir: Path) -> None:
    """Add how the engines of a configuration file are, and who has answered last; nothing without any."""
    try:
        configured = read_configured(file)
        if configured.backends:
            rows = rows_of(configured, {}, probes=1)
            found["engines"] = {row["name"]: row["state"] for row in rows}
            found["answered_last"] = answered_last(state_dir / FILE_NAME)
            ready = ", ".join(row["name"] for row in rows if row["state"] == "ready")
            if LOADED not in found:
                found["answers"] = f"{NOT_LOADED}; answered by: {ready or 'nobody'}"
            found["fixes"] += [row["problem"] for row in rows if row["problem"]]
    except CommandError as error:
        found["fixes"].append(str(error))


def self_test(checkpoint: str, device: str, fix: list[str]) -> dict[str, Any]:
    """Load and fill twice; what runs, and its times. Raises CheckpointError, DeviceError or TimeoutError."""
    engine = load_with_syntax(checkpoint, device)
    try:
        fill = engine.fill(SELF_TEST, Budget()).result(PATIENCE_S)
        again = engine.fill(SELF_TEST, Budget()).result(PATIENCE_S)
    finally:
        engine.close()
    if fill.candidates != again.candidates:
        fix.append("the same seed gave two fills; report this with the lines above")
    about = engine.about
    # Read for one release more, so nothing that must be fixed yet.
    old = {"old_keys": list(about.old_keys)} if about.old_keys else {}
    budget = about.context_budget
    context = {} if budget is None else {"context": f"at most {budget.tokens} tokens; {in_time(budget)}"}
    return {
        **old,
        "checkpoint": about.checkpoint,
        "parameters": about.parameters,
        "trained_on": list(about.languages),
        "layout": about.layout,
        "show_threshold": about.show_threshold,
        **context,
        "confidence": FITTED if about.calibrated else PRIOR,
        "device": about.device,
        "dtype": about.dtype,
        "threads": about.threads,
        "kernels": dict(about.kernels),
        "load_ms": about.load_ms,
        "first_fill_ms": fill.latency.total,
        "fill_ms": again.latency.total,
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def keys_first() -> bool:
    """Whether threads that answer a keystroke get a core at once here while the engine has them all."""
    # On a thread of its own: this one is to be scheduled as before.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(wake_soon).result()


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written there, and the fix; None when it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b"midspan")
    except OSError as error:
        return f"{folder}: {error.strerror}; make it writable or give another --state-dir"
    return None


def as_text(found: dict[str, Any]) -> str:
    """One fact a line, what must be fixed last."""
    lines = []
    for name, value in found.items():
        if name == "fixes":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {one}" for key, one in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        elif isinstance(value, float):
            value = f"{value:.3g}"
        lines.append(f"{name.replace('_', ' '):15} {value}")
    lines.extend(f"{'fix':15} {line}" for line in found["fixes"])
    return "\n".join(lines if found["fixes"] else [*lines, "all is well"])
