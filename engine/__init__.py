"""The engine: `load` a checkpoint, then `fill` holes; torch is imported only when `load` is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midspan.engine.api import About, Budget, Candidate, CheckpointError, DeviceError, Fill, Frame, Hole, Judge

if TYPE_CHECKING:
    from midspan.engine.engine import Engine

__all__ = ["About", "Budget", "Candidate", "CheckpointError", "DeviceError", "Fill", "Frame", "Hole", "Judge", "load"]


def load(checkpoint: str = "embedded", device: str = "auto", judge: Judge | None = None) -> Engine:
    """Load `embedded`, a folder, or a hub name from the local cache, onto `auto`, `cpu` or `cuda`.

    A judge says which fills break the syntax; without one every fill is taken to parse.

    Raises CheckpointError or DeviceError, each with one line that names the mend.
    """
    from midspan.engine.engine import Engine

    return Engine.load(checkpoint, device, judge)
