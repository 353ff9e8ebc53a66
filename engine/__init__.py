"""The engine: `load` a checkpoint, then `fill` holes; torch is imported only when `load` is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midspan.engine import api
from midspan.engine.api import (
    About,
    Budget,
    Candidate,
    CheckpointError,
    DeviceError,
    Fill,
    Frame,
    Glance,
    Hole,
    Judge,
    Line,
    OnProgress,
    Speed,
)
from midspan.engine.backends.process import prepare, working_folder_is_gone
from midspan.engine.hypotheses.line_lookup import LineIndex, bare_lines

if TYPE_CHECKING:
    from midspan.engine.engine import Engine

__all__ = [
    "About",
    "Budget",
    "Candidate",
    "CheckpointError",
    "DeviceError",
    "Fill",
    "Frame",
    "Glance",
    "Hole",
    "Judge",
    "Line",
    "LineIndex",
    "OnProgress",
    "Speed",
    "bare_lines",
    "glance",
    "kernel_rows",
    "load",
    "prepare",
    "speed",
    "without_canvases",
    "working_folder_is_gone",
]


def load(
    checkpoint: str = "embedded",
    device: str = "auto",
    judge: Judge | None = None,
    progress: OnProgress | None = None,
) -> Engine:
    """Load `embedded`, a folder, a GGUF file, or a hub name from the local cache, onto `auto`, `cpu` or `cuda`.

    `judge` says which fills break the syntax; without one every fill is taken to parse. `progress` is called with the
    bytes of weights read so far and in all.

    Raises CheckpointError or DeviceError, each with one line that names the fix.
    """
    prepare()
    from midspan.engine.engine import Engine

    return Engine.load(checkpoint, device, judge, progress)


def without_canvases(engine: api.Engine) -> api.Engine:
    """A loaded canvas checkpoint without its canvases, on the same worker; close the engine itself.

    Raises CheckpointError with one line for one that is not to be read so.
    """
    from midspan.engine.engine import Engine

    if not isinstance(engine, Engine):
        raise CheckpointError(f"{engine.about.checkpoint}: has no reading but its own; name no other")
    return engine.without_canvases()


def glance(path: Path) -> Glance:
    """What a GGUF file or a checkpoint folder is, from its headers; without torch. Whatever is wrong is its problem."""
    from midspan.engine.weights.glance import glance

    return glance(path)


def speed(device: str = "auto") -> Speed:
    """Measure in about two seconds how fast networks are here. Raises CheckpointError or DeviceError."""
    prepare()
    from midspan.engine.bench.speed import speed

    return speed(device)


def kernel_rows(device: str = "auto") -> Iterator[dict[str, Any]]:
    """Time every kernel on the GPU at the released network's sizes: one row per op, with `error` where it is wrong.

    Raises DeviceError where there is no GPU.
    """
    from midspan.engine.bench.timing import gpu, kernel_rows

    return kernel_rows(gpu(device))
