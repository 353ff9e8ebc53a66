"""One server process, asked as an editor asks it."""

from __future__ import annotations

from tempfile import TemporaryDirectory

from lsprotocol import types

from midspan.server.bench.typist import server_command, typing
from midspan.server.errors import CommandError

URI = "file:///doctor.py"


async def round_trip(checkpoint: str, device: str) -> float:
    """Milliseconds of one completion through `midspan serve`: initialize, load, open, edit, complete, cancel, leave.

    Raises CommandError with the server's own words, and TimeoutError.
    """
    with TemporaryDirectory(prefix="midspan-doctor-") as folder:
        serve = [*server_command(checkpoint, device, None), "--state-dir", folder]
        try:
            async with typing(serve, {}) as typist:
                typist.open(URI, "def add(a, b):\n    return a\n")
                typist.replace(URI, 1, 11, 12, "")
                await typist.complete(URI, types.Position(1, 11))
                await typist.cancel(URI, types.Position(0, 4), "cancelled")
                return typist.all_ms[0]
        except CommandError as error:
            raise CommandError(f"midspan serve: {error}; run it with --log-file to see more") from error
