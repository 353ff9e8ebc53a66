"""The canvas in the terminal as it settles; settled, free, filler and frozen tokens look different."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from midspan.engine.api import CellState, Frame

STYLES: dict[CellState, str] = {
    "settled": "bold green",
    "free": "yellow",
    "filler": "dim",
    "frozen": "cyan",
}
# Without colours, marks around a token tell its state.
MARKS: dict[CellState, tuple[str, str]] = {
    "settled": ("[", "]"),
    "free": ("?", "?"),
    "filler": ("", ""),
    "frozen": ("", ""),
}


def draw(frame: Frame, *, coloured: bool) -> Text:
    """One line: the step, then every cell in its state's style, or its marks where there are no colours."""
    line = Text(f"step {frame.step}/{frame.steps} ", style="dim")
    for cell in frame.cells:
        shown = "·" if cell.state == "filler" else cell.text.replace("\n", "⏎").replace("\t", "⇥")
        before, after = ("", "") if coloured else MARKS[cell.state]
        line.append(before + shown + after, style=STYLES[cell.state])
    return line


def legend(*, coloured: bool) -> Text:
    """What the styles or marks mean."""
    out = Text("")
    for state, style in STYLES.items():
        before, after = ("", "") if coloured else MARKS[state]
        name = "· filler" if state == "filler" else f"{before}{state}{after}"
        out.append(name + "  ", style=style)
    return out


class Watched:
    """Draws frames: in place on a terminal, a line a step elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, soft_wrap=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is None:
            self._console.print(legend(coloured=False))
        else:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_frame(self, frame: Frame) -> None:
        """Draw one frame; called on the engine's thread."""
        if self._live is None:
            self._console.print(draw(frame, coloured=False))
        else:
            self._live.update(Group(legend(coloured=True), draw(frame, coloured=True)), refresh=True)
