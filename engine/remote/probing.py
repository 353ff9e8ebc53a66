"""The health of a remote server, asked on a thread of its own, as the caller's may have a loop that runs."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import asdict, replace

from midspan.engine.api import RemoteError
from midspan.engine.remote.address import Remote
from midspan.engine.remote.health import PROBE_S, Health, State


def probe(remote: Remote) -> Health:
    """What this server is and can do; blocks for PROBE_S seconds at most."""
    found = list[Health]()
    thread = threading.Thread(target=lambda: found.append(asyncio.run(_probed(remote))), name="midspan-probe")
    thread.start()
    thread.join()
    return found[0]


async def _probed(remote: Remote) -> Health:
    from midspan.engine.remote.client import Client
    from midspan.engine.remote.paths import path_of

    kind, address, began = remote.kind, remote.address, time.perf_counter()
    try:
        async with Client(remote) as client:
            began = time.perf_counter()
            async with asyncio.timeout(PROBE_S):
                can = await path_of(remote, client).can()
    except TimeoutError:
        problem = f"{remote.name} at {address}: does not answer within {PROBE_S:.0f} s; look whether it is busy"
        return Health(kind=kind, address=address, state="refused", problem=problem)
    except RemoteError as error:
        state: State = "loading" if error.status == 503 else "refused"
        latency = 1000 * (time.perf_counter() - began) if error.status else 0.0
        found = Health(kind=kind, address=address, state=state, problem=str(error), latency_ms=latency)
        return replace(found, status=error.status)
    latency = 1000 * (time.perf_counter() - began)
    return Health(kind=kind, address=address, state="ready", latency_ms=latency, **asdict(can))
