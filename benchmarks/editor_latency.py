"""Time from a key to painted ghost text, and to the ordinary menu with midspan and without, in a real VS Code.

`.venv/bin/python benchmarks/record.py editor_latency.py [--samples N]`, after `make vsix vscode`: the packaged
extension, the real server and the embedded model in code-server and Chromium. All times are taken in the page: from the
key's own time stamp to the frame that shows the text, or the menu's first row. `server_ms` is the server's share of the
same requests, from its telemetry store. Three windows take turns at the menu: with midspan as it ships (where ghost
text comes, there is no menu, and the key does not count), with a threshold that nothing reaches, and without midspan.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NODE = ROOT / ".cache/vscode/node/bin/node"
ENTRY = ROOT / ".cache/vscode/server/node_modules/code-server/out/node/entry.js"
VSIX = ROOT / "editors/vscode/midspan.vsix"


def quantiles(times: list[float | None]) -> dict[str, Any]:
    """p50 and p95 in milliseconds of the times that are not None, their number, and the number of all."""
    came = sorted(time for time in times if time is not None)
    if not came:
        return {"count": 0, "of": len(times)}
    at = {
        name: round(came[min(len(came) - 1, int(len(came) * share))], 1)
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }
    return {**at, "count": len(came), "of": len(times)}


def measure(samples: int) -> dict[str, list[float | None] | dict[str, list[float | None]]]:
    """The times that editor_latency.mjs measures, by kind. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as scratch:
        homes = {f"XDG_{kind}_HOME": f"{scratch}/{kind}" for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
        extensions = f"{scratch}/extensions"
        variables = os.environ | homes | {"MIDSPAN_EXTENSIONS": extensions, "MIDSPAN_PYTHON": sys.executable}
        folders = ["--extensions-dir", extensions, "--user-data-dir", f"{scratch}/data"]
        install = [str(NODE), str(ENTRY), *folders, "--install-extension", str(VSIX)]
        subprocess.run(install, env=variables, stdout=sys.stderr, check=True)
        script = Path(__file__).with_suffix(".mjs")
        ended = subprocess.run(
            [str(NODE), str(script), str(samples)], env=variables, stdout=subprocess.PIPE, text=True, check=True
        )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main(argv: list[str]) -> int:
    """Read the command line, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40)
    samples = parser.parse_args(argv).samples
    missing = [path for path in (NODE, ENTRY, VSIX) if not path.exists()]
    if missing:
        sys.exit(f"{missing[0]} is not there: run make vsix vscode")
    found: dict[str, Any] = measure(samples)
    row = {
        "checkpoint": "embedded",
        "device": "auto",
        "editor": "code-server 4.139.1",
        "key_to_ghost_ms": quantiles(found["ghost"]),
        "server_ms": quantiles(found["server"]),
        "menu_ms": {name: quantiles(times) for name, times in found["menus"].items()},
    }
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
