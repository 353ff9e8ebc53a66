"""Fills gaps with the midspan on PYTHONPATH, which may be an older one: `fills.py CHECKPOINT DEVICE`.

It says first what is loaded. Then each line of its input is a hole, an object of `prefix`, `suffix`, `kind` and `seed`,
and each line of its output is a fill's `text`. It uses of midspan only what stays from release to release, and the
syntax check, without which no checkpoint is as good as in the server.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from midspan.engine.api import Budget, CheckpointError, DeviceError, Hole
from midspan.server.text.syntax_check import load_with_syntax


def say(found: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def main(checkpoint: str, device: str) -> int:
    """Load, then fill until the input ends; 1 with an `error` for a checkpoint that does not load."""
    try:
        engine = load_with_syntax(checkpoint, device)
    except (CheckpointError, DeviceError) as error:
        say({"error": str(error)})
        return 1
    about = dataclasses.asdict(engine.about)
    say({name: about.get(name) for name in ("checkpoint", "device", "reads_other_lines", "context_tokens")})
    for line in sys.stdin:
        asked = json.loads(line)
        budget = Budget(seed=asked.pop("seed"))
        say({"text": engine.fill(Hole(**asked), budget).result().text})
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
