"""`make demo`: fills several gaps of a real file with the embedded model, and says which are right."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from midspan.engine.api import Budget, Engine, Fill
from midspan.server.commands.watch import Watched
from midspan.server.postprocess.trim import trim
from midspan.server.text.documents import Document
from midspan.server.text.hole import build_hole
from midspan.server.text.syntax_check import load_with_syntax

FILE = Path("fixtures/demo/inventory.py")
ROOT = Path(__file__).resolve().parents[2]
# What is cut out of the file: (the line's beginning up to the cursor, the rest of that line). Chosen to show both what
# the model can do, which is to finish what is begun, and what it cannot.
GAPS = (
    ("            raise KeyError(n", "ame)"),
    ("    def __init__(self, path=", "None):"),
    ("        for item in self.items.va", "lues():"),
    ("    def add", "(self, item):"),
    ("        for item in ", "self.items.values():"),
    ("        item = self.", "get(name)"),
)


def main() -> int:
    """Fill every gap, drawing the canvas as it settles; returns 0 whether the fills are right or wrong."""
    console = Console(highlight=False, soft_wrap=True)
    if not (ROOT / FILE).is_file():
        console.print(f"midspan: {ROOT / FILE}: no such file; run this in a clone of the repository")
        return 1
    text = (ROOT / FILE).read_text(encoding="utf-8")
    engine = load_with_syntax()
    about = engine.about
    console.print(
        f"{about.checkpoint} model, {about.parameters / 1e6:.1f} M parameters, {about.dtype} on {about.device}, "
        f"loaded in {about.load_ms:.0f} ms"
    )
    table = Table("line", "fill", "true text", "", "confidence", "latency", title=str(FILE))
    right = 0
    for before, truth in GAPS:
        line, fill, filled = _fill(engine, text, before, truth, console)
        right += filled == truth
        verdict = "[green]right" if filled == truth else "[red]wrong"
        latency = f"{fill.latency.total:.0f} ms"
        table.add_row(str(line), Text(filled or ""), Text(truth), verdict, f"{fill.confidence:.2f}", latency)
    engine.close()
    console.print(table)
    shown = f"In an editor only fills of confidence {about.show_threshold:.2f} or more are shown unasked."
    console.print(f"{right} of {len(GAPS)} exactly as it stood there. {shown}")
    return 0


def _fill(engine: Engine, text: str, before: str, truth: str, console: Console) -> tuple[int, Fill, str | None]:
    """Cut the gap out, fill it while drawing, and trim as the server would; the line is 1-based."""
    at = text.index(before + truth) + len(before)
    document = Document(str(FILE), "python", 0, text[:at] + text[at + len(truth) :])
    line, column = text.count("\n", 0, at), at - text.rfind("\n", 0, at) - 1
    hole = build_hole(document, (line, column))
    console.print(f"\nline {line + 1}: {document.content(line)[:column]}", style="bold", end="")
    console.print("‸", style="red")
    with Watched(sys.stdout) as watched:
        fill = engine.fill(hole, Budget(), on_frame=watched.on_frame).result()
    return line + 1, fill, trim(hole, fill.text)


if __name__ == "__main__":
    sys.exit(main())
