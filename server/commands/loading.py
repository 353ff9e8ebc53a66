"""Loading a checkpoint in a terminal, with a progress bar: the released one has tens of gigabytes."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from midspan.engine.api import CheckpointError, DeviceError
from midspan.server.backends.configured import Configured, read_configured
from midspan.server.backends.engines import engine_named, router_elsewhere, router_over
from midspan.server.engine_errors import NOT_LOADED
from midspan.server.router.members import Member
from midspan.server.router.router import Means, Router
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


def engine_for(arguments: argparse.Namespace) -> Engine:
    """What `--engine` names, or the local checkpoint, loaded with a bar. Raises CommandError and what loading does."""
    if arguments.engine is None:
        return load_shown(arguments.checkpoint, arguments.device)
    return _named(arguments, read_configured(arguments.engines_file))


def router_for(arguments: argparse.Namespace) -> Router:
    """A router over what `--engine` names alone, or over the local checkpoint and all that is configured.

    Whoever is elsewhere has been probed by then, and answers alone where the checkpoint does not load. Raises
    CommandError, and what loading raises if nobody else is there.
    """
    configured, means = read_configured(arguments.engines_file), Means(background=lambda call: call())
    if (name := arguments.engine) is not None:
        if (elsewhere := router_elsewhere(name, configured, means)) is not None:
            return elsewhere
        engine = _named(arguments, configured)
        return Router([Member(name=name, reading="diffusion", tier="in_process", connect=lambda: engine)])
    try:
        return router_over(load_shown(arguments.checkpoint, arguments.device), configured, means)
    except (CheckpointError, DeviceError) as error:
        if not configured.backends:
            raise
        router = router_over(None, configured, means)
        if not router.connected:
            router.close()
            raise
        print(f"midspan: {NOT_LOADED}: {error}; engines elsewhere answer", file=sys.stderr)
        return router


def _named(arguments: argparse.Namespace, configured: Configured) -> Engine:
    """What `--engine` names, which is given. Raises CommandError and what loading raises."""
    return engine_named(arguments.engine, lambda: load_shown(arguments.checkpoint, arguments.device), configured)
