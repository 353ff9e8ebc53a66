"""Time of collecting context on the event loop: `benchmarks/context.py [--lines 1000 20000 100000] [--gaps 300]`.

For each length a Python file of that many lines is opened, with this repository as the index. Context is collected for
gaps on one line after another, as when a person moves on, and then for keys typed on one line. Times are milliseconds
of the thread's processor time for the server's calls, without engine, protocol and the parse of an edit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from midspan.server.context.context import Context
from midspan.server.text.documents import Documents
from midspan.server.text.hole import build_hole

ROOT = Path(__file__).parents[1]
TOKENS = 2000
WAIT_S = 300.0


def timed(calls: Sequence[Callable[[], object]]) -> dict[str, float]:
    """Percentiles of the calls' times."""
    took = []
    for call in calls:
        began = time.thread_time()
        call()
        took.append(1000 * (time.thread_time() - began))
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3), "max": round(max(took), 3)}


async def measure(lines: int, gaps: int) -> dict[str, object]:
    """The row of one file of `lines` lines, made of this repository's server."""
    body = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "server").glob("*.py")))
    text = "\n".join((body.split("\n") * (lines // body.count("\n") + 1))[:lines])
    documents = Documents()
    uri = (ROOT / "server" / "long.py").as_uri()
    document = documents.open(uri, "python", 1, text)
    context = Context(documents)
    await context.follow(TOKENS, (), [ROOT], [])
    index, found = context.background.index, context.background.found
    async with asyncio.timeout(WAIT_S):
        while not index.scanned:
            found.clear()
            await found.wait()
    step = max(1, lines // (2 * gaps))
    places = [(lines // 2 + number * step // 2, 0) for number in range(gaps)]
    holes = {place: build_hole(document, place) for place in places}
    chars = [sum(map(len, context.at(document, place, holes[place]))) for place in places]
    moved = timed([lambda place=place: context.at(document, place, holes[place]) for place in places])
    last = places[-1]
    span = (last, last)
    typed = timed([lambda: (context.changed(uri, [(span, "x")]), context.at(document, last, holes[last]))] * gaps)
    await context.close()
    row = {"lines": lines, "definitions": index._count, "chars_mean": round(statistics.fmean(chars))}
    return row | {"another_line_ms": moved, "same_line_ms": typed}


def main() -> None:
    """Measure and print a JSON object for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[1000, 20_000, 100_000])
    parser.add_argument("--gaps", type=int, default=300)
    arguments = parser.parse_args()
    for lines in arguments.lines:
        sys.stdout.write(json.dumps(asyncio.run(measure(lines, arguments.gaps))) + "\n")


if __name__ == "__main__":
    main()
