"""How torch's threads wait for each other on a CPU; to be said before torch is imported."""

from __future__ import annotations

import os

# Rounds of GNU OpenMP's waiting loop, some hundred microseconds. Its own 300,000 keep a core from the editor, and from
# the next keystroke, for milliseconds after each product; none would have every product wake its threads.
SPIN = "50000"


def spin_briefly() -> None:
    """Let idle threads of products sleep soon, unless the user's environment says how they wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
