"""The command `midspan` with the scripted engine: python scripted_midspan.py COMMAND [...].

`serve` is scripted_serve.py's; every other command is midspan's own, which finds the scripted engine where it asks for
one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from midspan.engine.api import Engine
from midspan.server import cli
from midspan.server.commands import doctor

# Run as a script: the repository's root is not on the path yet.
sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.server import scripted_serve
from tests.server.scripted import ScriptedEngine

ROUND_TRIP_MS = 12.5


def load(checkpoint: str, device: str) -> Engine:
    return ScriptedEngine()


async def round_trip(checkpoint: str, device: str) -> float:
    return ROUND_TRIP_MS


def main() -> int:
    if sys.argv[1] == "serve":
        del sys.argv[1]
        return scripted_serve.main()
    vars(doctor).update(load_with_syntax=load, round_trip=round_trip)
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
