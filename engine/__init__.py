"""The engine: `load` a checkpoint, then `fill` holes; torch is imported only when `load` is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midspan.engine.api import About, Budget, Candidate, CheckpointError, DeviceError, Fill, Frame, Hole

if TYPE_CHECKING:
    from midspan.engine.engine import Engine

__all__ = ["About", "Budget", "Candidate", "CheckpointError", "DeviceError", "Fill", "Frame", "Hole", "load"]


def load(checkpoint: str = "embedded", device: str = "auto") -> Engine:
    """Load `embedded`, a folder, or a hub name from the local cache, onto `auto`, `cpu` or `cuda`.

    Raises CheckpointError or DeviceError, each with one line that names the mend.
    """
    from midspan.engine.engine import Engine

    return Engine.load(checkpoint, device)
