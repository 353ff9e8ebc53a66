"""Engines on other servers, asked over HTTP: `connect(remote)` is one that fills holes, `probe(remote)` its health.

Nothing here opens a socket, nor imports the HTTP client, before one of its functions is called.
"""

from __future__ import annotations

from midspan.engine.api import Engine, RemoteError
from midspan.engine.remote.address import Kind, Remote, Tier
from midspan.engine.remote.health import Health

__all__ = ["Health", "Kind", "Remote", "RemoteError", "Tier", "connect", "counted", "probe"]


def connect(remote: Remote) -> Engine:
    """An engine that asks this server; returns at once, the HTTP client is made on the engine's own thread.

    A newer fill replaces an older one, as in the engine of this process. A fill's future fails with RemoteError where
    the server refuses, cannot be reached or answers nonsense; a deadline that passes is a Fill that `stopped` there.
    """
    from midspan.engine.remote.engine import RemoteEngine

    return RemoteEngine(remote)


def probe(remote: Remote) -> Health:
    """What this server is and can do, asked now; blocks for health.PROBE_S seconds at most, and raises nothing."""
    from midspan.engine.remote.probing import probe

    return probe(remote)


def counted(remote: Remote) -> dict[str, float]:
    """What this server has counted since its start, as far as it tells; see probing.counted."""
    from midspan.engine.remote.probing import counted

    return counted(remote)
