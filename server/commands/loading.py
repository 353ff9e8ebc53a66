"""Loading a checkpoint in a terminal, with a progress bar: the released one has tens of gigabytes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from midspan.server.text.syntax_check import load_with_syntax

if TYPE_CHECKING:
    from midspan.engine.api import Engine


def load_shown(checkpoint: str, device: str) -> Engine:
    """As load_with_syntax, with a bar on stderr while it lasts, where that is a terminal."""
    if not sys.stderr.isatty():
        return load_with_syntax(checkpoint, device)
    columns = (TextColumn("loading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None)
        return load_with_syntax(checkpoint, device, lambda done, total: bar.update(task, completed=done, total=total))
