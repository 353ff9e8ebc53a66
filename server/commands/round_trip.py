"""One completion through a real server process, for `midspan doctor`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from lsprotocol import types

from midspan.server.client.typist import Typist, server_command, typing
from midspan.server.commands.errors import CommandError
from midspan.server.telemetry.schema import FILE_NAME

URI = "file:///doctor.py"
# The last character of its second line is filled in anew. Without it the text does not parse, so nothing is vetoed.
TEXT = "def add(a, b):\n    return a + b\n"
# Everything is shown, so that every round trip reaches the store.
OPTIONS = {"show_threshold": 0.0, "deadline_ms": 60_000, "languages": {"python": True}}


async def round_trip(checkpoint: str, device: str) -> float:
    """Milliseconds of one completion through `midspan serve`.

    The trip: initialize with settings, await the model, open, edit, complete, show, accept, read the row, ask for code
    actions, cancel, leave. Raises TimeoutError, or CommandError with the server's own words or what was wrong.
    """
    with TemporaryDirectory(prefix="midspan-doctor-") as folder:
        serve = [*server_command(checkpoint, device, None), "--state-dir", folder]
        try:
            async with typing(serve, OPTIONS) as typist:
                took = await _edit(typist)
        except CommandError as error:
            raise CommandError(f"midspan serve: {error}; run it with --log-file to see more") from error
        if _accepted(Path(folder)) != 1:
            raise CommandError("midspan serve: an accepted suggestion left no row in the telemetry; report this")
        return took


async def _edit(typist: Typist) -> float:
    typist.open(URI, TEXT)
    gap = len(TEXT.split("\n")[1]) - 1
    typist.replace(URI, 1, gap, gap + 1, "")
    # Explicitly, as what is right there may be a single character.
    item = await typist.ask(URI, types.Position(1, gap), invoked=True)
    if item is None:
        raise CommandError("nothing is offered even where everything is shown; give a trained --checkpoint")
    typist.say_shown(item)
    await typist.say_accepted(item)
    # The server tells of a store that it cannot write before it answers that.
    if (trouble := typist.trouble()) is not None:
        raise CommandError(trouble)
    await typist.actions(URI, types.Range(types.Position(1, 4), types.Position(1, gap)))
    await typist.cancel(URI, types.Position(0, 4), "cancelled")
    return typist.all_ms[0]


def _accepted(folder: Path) -> int:
    """How many suggestions the store has as shown and accepted; none if the server could not make a store."""
    store = sqlite3.connect(folder / FILE_NAME)
    try:
        (count,) = store.execute("SELECT count(*) FROM completion WHERE shown AND accepted_ts NOT NULL").fetchone()
    except sqlite3.OperationalError:
        return 0
    finally:
        store.close()
    return int(count)
