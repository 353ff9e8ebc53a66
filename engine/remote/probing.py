"""What a server tells of itself, asked on a thread of its own, as the caller's may have a loop that runs.

Its health, and what it has counted since its start: its GET /metrics in Prometheus's text format, if it has one.
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from midspan.engine.api import RemoteError
from midspan.engine.remote.address import Remote
from midspan.engine.remote.health import PROBE_S, Health, State
from midspan.engine.remote.reply import number_of

# Of one name, a line for each set of labels; they are added up.
LINE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{.*\})? +([^ \n]+)", re.M | re.A)
# llama.cpp's tools/server/README.md, and vLLM's v1/metrics.
NAMES: Mapping[str, tuple[str, ...]] = {
    "forwards": ("llamacpp:n_decode_total", "vllm:diffusion_num_denoising_steps_total"),
    "busy_s": (
        *("llamacpp:prompt_seconds_total", "llamacpp:tokens_predicted_seconds_total"),
        *("vllm:request_prefill_time_seconds_sum", "vllm:request_decode_time_seconds_sum"),
    ),
    "queue_s": ("vllm:request_queue_time_seconds_sum",),
    "begun": ("vllm:request_queue_time_seconds_count",),
}


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


def counted(remote: Remote) -> dict[str, float]:
    """`forwards`, and seconds of requests at work (`busy_s`) and waiting (`queue_s`, of `begun` requests), all told.

    vLLM's forwards are steps of single canvases, several of which share a pass. `slots` is how many requests a
    llama-server works on at once. A key that the server does not tell of is left out. Blocks for health.PROBE_S seconds
    at most, and raises nothing.
    """
    found = dict[str, float]()
    thread = threading.Thread(target=lambda: asyncio.run(_count(remote, found)), name="midspan-metrics")
    thread.start()
    thread.join()
    return found


async def _count(remote: Remote, found: dict[str, float]) -> None:
    from midspan.engine.remote.client import Client

    try:
        async with asyncio.timeout(PROBE_S), Client(remote) as client:
            if remote.kind == "llama-server":
                slots = number_of(await client.get("/props"), "total_slots")
                found |= {"slots": slots} if slots else {}
            found |= summed(await client.text("/metrics"))
    except (RemoteError, TimeoutError):
        # It counts nothing, or tells nobody: what is missing says so.
        return


def summed(text: str) -> dict[str, float]:
    """The counts that a text of metrics holds."""
    told = dict[str, float]()
    for name, value in LINE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            told[name] = told.get(name, 0.0) + number
    known = {key: [told[name] for name in names if name in told] for key, names in NAMES.items()}
    return {key: sum(values) for key, values in known.items() if values}
