"""`make picture`: types in a real Neovim, with the real server, and draws its screen as a moving SVG.

The picture is at the top of README.md. It shows the embedded checkpoint's real suggestions: nothing is drawn by hand.
Every step waits until its result is on screen, so that no frame depends on the machine's speed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FETCHED = ROOT / ".cache" / "nvim" / "nvim"
OUT = ROOT / "docs" / "ghost-text.svg"
COLUMNS, ROWS = 72, 14
CELL_W, CELL_H, MARGIN = 8.43, 19, 14
INK, CURSOR, PAPER = "#24292f", "#5a5f6a", "#f6f8fa"
# The editor starts with the demo file up to this line.
UP_TO = "    def find(self, tag):"
# Text to type, and whether the suggestion behind it is accepted.
LINES = (
    ("    def cheapest(self):", False),
    ("        result = N", True),
    ("        for item in self.items.", True),
    ("            if result is None or item.price < result.p", True),
    ("                result = item", False),
    ("        ret", True),
)


def row_of(runs: list[dict[str, Any]], top: int) -> str:
    """A screen row as SVG text, one element for each run of a colour."""
    out, column = [], 0
    for run in runs:
        text = str(run["text"])
        if text.strip():
            left = (column + len(text) - len(text.lstrip())) * CELL_W
            colour = INK if run["colour"] < 0 else f"#{run['colour']:06x}"
            shown = text.strip()
            # textLength keeps the columns in place whatever font a viewer has.
            place = f'x="{left:.1f}" y="{top}" textLength="{len(shown) * CELL_W:.1f}" lengthAdjust="spacingAndGlyphs"'
            out.append(f'<text {place} fill="{colour}">{escape(shown)}</text>')
        column += len(text)
    return "".join(out)


def drawn(frame: dict[str, Any]) -> str:
    """A frame's rows and its cursor as SVG."""
    row, column = frame["cursor"]
    cursor = f'<rect x="{column * CELL_W:.1f}" y="{row * CELL_H + 4}" width="2" height="{CELL_H}" fill="{CURSOR}"/>'
    return cursor + "".join(row_of(runs, (at + 1) * CELL_H) for at, runs in enumerate(frame["rows"]))


def svg(frames: list[dict[str, Any]]) -> str:
    """All frames as one SVG that repeats."""
    total, now = sum(frame["seconds"] for frame in frames), 0.0
    rules, groups = [], []
    for number, frame in enumerate(frames):
        begin, end = 100 * now / total, 100 * (now + frame["seconds"]) / total
        last = "100%{opacity:0}" if end < 100 else ""
        rules.append(
            f"@keyframes f{number}{{{'' if not begin else '0%{opacity:0}'}{begin:.2f}%{{opacity:1}}"
            f"{end:.2f}%{{opacity:0}}{last}}}#f{number}{{animation:f{number} {total:.1f}s step-end infinite}}"
        )
        groups.append(f'<g id="f{number}" opacity="0">{drawn(frame)}</g>')
        now += frame["seconds"]
    width, height = round(COLUMNS * CELL_W + 2 * MARGIN), ROWS * CELL_H + 2 * MARGIN
    style = "text{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}" + "".join(rules)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>midspan in Neovim</title><style>{style}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>'
        f'<g transform="translate({MARGIN},{MARGIN})">' + "\n".join(groups) + "</g></svg>\n"
    )


def record(command: str, folder: Path) -> list[dict[str, Any]]:
    """The frames that Neovim showed. Raises SystemExit with what it waited for in vain."""
    text = (ROOT / "fixtures/demo/inventory.py").read_text(encoding="utf-8")
    file, case, result = folder / "inventory.py", folder / "case.json", folder / "seen.json"
    file.write_text(text[: text.index(UP_TO)].rstrip() + "\n", encoding="utf-8")
    told = {
        "plugin": str(ROOT / "editors/nvim"),
        "command": [sys.executable, "-m", "midspan.server", "serve", "--state-dir", str(folder)],
        "settings": {},
        "file": str(file),
        "columns": COLUMNS,
        "rows": ROWS,
        "lines": [{"typed": typed, "accept": accept} for typed, accept in (("", False), *LINES)],
        "timeout_ms": 60_000,
        "result": str(result),
    }
    case.write_text(json.dumps(told), encoding="utf-8")
    run = [command, "--headless", "-u", "NONE", "-i", "NONE", "-n", "-S", str(HERE / "picture.lua")]
    environment = os.environ | {"MIDSPAN_CASE": str(case), "PYTHONPATH": str(ROOT / "src"), "HOME": str(folder)}
    subprocess.run(run, env=environment, stdin=subprocess.DEVNULL, timeout=300, check=False)
    seen = json.loads(result.read_text(encoding="utf-8"))
    if "trouble" in seen:
        raise SystemExit(f"no picture: {seen['trouble']}")
    return list(seen["frames"])


def main() -> None:
    """Record and write the picture."""
    command = str(FETCHED) if FETCHED.exists() else shutil.which("nvim")
    if command is None:
        raise SystemExit("no Neovim: run make nvim, or put Neovim 0.12 or newer on PATH")
    with tempfile.TemporaryDirectory() as folder:
        OUT.write_text(svg(record(command, Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
