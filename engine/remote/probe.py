"""The health of a remote server."""

from __future__ import annotations

from midspan.engine.remote.address import Remote
from midspan.engine.remote.health import Health


def probe(remote: Remote) -> Health:
    """What this server is and can do."""
    return Health(kind=remote.kind, address=remote.address, state="refused", problem="not built yet")
