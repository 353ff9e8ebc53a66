"""Times a fill-in-the-middle GGUF at every key somebody types, through midspan's engine and through llama-server.

`.venv/bin/python -m benchmarks.versus_llama_server FILE.gguf [--keys N] [--threads T]`, after
`benchmarks/fetch_llama_server.sh`; the last line is a JSON row, which `record.py versus_llama_server.py ...` adds to
`rows.jsonl`.

Both sides have the same file, the same number of threads and the same text: what midspan's prompt of the key's hole
holds is what llama-server's /infill is given, with its cache on, as its editor plugins ask. Each key goes to both, by
turns, so that both are as busy; each time is of one whole single-line fill, to its end. Files are those of Python's
standard library, cut to so many lines; in each, lines are retyped from the middle on.

`*_ms` are of the keys but the first in each file, which is in `*_cold_ms`; `ratio` is midspan's over llama-server's.
`prompt` and `generate` are tokens a second: of midspan one prompt and tokens one by one, without drafts; of
llama-server what it states itself for the first key of each file, and for all. `drafts` counts midspan's passes and
tokens; `same_fills` is the share of keys where both wrote the same text.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.llama_server import LlamaServer, Read
from midspan.engine.api import Budget, CheckpointError, DeviceError, Hole
from midspan.engine.engine import load_path
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.left_to_right import LeftToRight

# Module and lines of it: a hundred to five thousand.
FILES = (("bisect", 100), ("shlex", 300), ("textwrap", 480), ("argparse", 1200), ("typing", 2500), ("_pydecimal", 5000))
PROMPT_TOKENS, WRITTEN_TOKENS = 400, 32


class Key(NamedTuple):
    """A key that is typed: its hole, and whether it is the first in its file."""

    hole: Hole
    first: bool


def typed(module: str, lines: int, keys: int) -> Iterator[Key]:
    """`keys` holes of a file whose lines are retyped from the middle on."""
    path = Path(sysconfig.get_paths()["stdlib"]) / f"{module}.py"
    text = path.read_text(encoding="utf-8").split("\n")[:lines]
    first = True
    for row in range(len(text) // 2, len(text)):
        line = text[row]
        indent = len(line) - len(line.lstrip())
        above, below = "\n".join((*text[:row], "")), "\n".join(("", *text[row + 1 :]))
        for column in range(indent, len(line)):
            if keys == 0:
                return
            yield Key(Hole(prefix=above + line[:column], suffix=below), first)
            keys, first = keys - 1, False


@dataclass
class Times:
    """Milliseconds of a side's fills, and those of the first keys."""

    warm: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)

    def add(self, began: float, *, first: bool) -> None:
        """Add what has passed since."""
        (self.cold if first else self.warm).append(1000 * (time.perf_counter() - began))

    def row(self, side: str) -> dict[str, Any]:
        """p50 and p95, and the median of cold fills."""
        cuts = statistics.quantiles(self.warm, n=20, method="inclusive")
        ms = {"p50": round(cuts[9], 1), "p95": round(cuts[18], 1)}
        return {f"{side}_ms": ms, f"{side}_cold_ms": round(statistics.median(self.cold), 1)}


@torch.inference_mode()
def speeds(path: LeftToRight) -> dict[str, float]:
    """midspan's tokens a second: of a prompt, and written one by one with the likeliest next token chosen."""
    backend = path.backend
    ids = torch.arange(PROMPT_TOKENS)[None] % backend.vocab_size
    best = {"prompt": 0.0, "generate": 0.0}
    inner = torch.ones(backend.vocab_size, dtype=torch.bool)
    for _ in range(3):
        cache, began = backend.new_cache(PROMPT_TOKENS), time.perf_counter()
        hidden = backend.prefill(ids, cache, last=1)
        best["prompt"] = max(best["prompt"], PROMPT_TOKENS / (time.perf_counter() - began))
        began = time.perf_counter()
        for _ in range(WRITTEN_TOKENS):
            token = backend.next_token(hidden[0], inner, ~inner, 1).ids
            hidden = backend.prefill(token, cache)
        best["generate"] = max(best["generate"], WRITTEN_TOKENS / (time.perf_counter() - began))
    return {name: round(value, 1) for name, value in best.items()}


def fill(path: LeftToRight, hole: Hole) -> str:
    """midspan's fill, greedy."""
    out = path.infill(hole, Budget(), PATIENT)
    return path.prompt.text(list(out.ranked[0].ids), out.layout) if out.ranked else ""


def compare(path: LeftToRight, server: LlamaServer, keys: int) -> dict[str, Any]:
    """Both sides at every key, by turns."""
    ours, theirs, equal, stated = Times(), Times(), list[bool](), list[dict[str, float]]()
    limit = path.settings.layout.line_tokens
    path.infill(Hole(prefix="a = ", suffix="\n"), Budget(), PATIENT)
    server.infill(Read(above="", line="a = ", behind="\n"), limit)
    for module, lines in FILES:
        for key in typed(module, lines, keys // len(FILES)):
            read, texts = Read.of(key.hole, path.prompt), ["", ""]
            for side in (0, 1) if len(equal) % 2 else (1, 0):
                began = time.perf_counter()
                if side == 0:
                    texts[0] = fill(path, key.hole)
                    ours.add(began, first=key.first)
                else:
                    answer = server.infill(read, limit)
                    theirs.add(began, first=key.first)
                    texts[1] = answer["content"].partition("\n")[0]
                    stated.append({**answer["timings"], "first": key.first})
            equal.append(texts[0].rstrip() == texts[1].rstrip())
    row = ours.row("midspan") | theirs.row("llama_server")
    ratio = {p: round(row["midspan_ms"][p] / row["llama_server_ms"][p], 2) for p in ("p50", "p95")}
    prompt = [one["prompt_per_second"] for one in stated if one["first"]]
    written = [one["predicted_per_second"] for one in stated if one["predicted_n"] > 4]
    speed = {"prompt": round(statistics.median(prompt), 1), "generate": round(statistics.median(written), 1)}
    return {
        **row,
        "ratio": ratio,
        "midspan_tokens_s": speeds(path),
        "llama_server_tokens_s": speed,
        "drafts": asdict(path.drafts),
        "same_fills": round(sum(equal) / len(equal), 3),
        "keys": len(equal),
    }


def main() -> None:
    """Read the command line, compare, print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        path = load_path(str(arguments.gguf), "cpu")
    except (CheckpointError, DeviceError) as problem:
        raise SystemExit(str(problem)) from problem
    assert isinstance(path, LeftToRight)
    torch.set_num_threads(1)
    with LlamaServer(arguments.gguf, arguments.threads) as server:
        found = compare(path, server, arguments.keys)
    row = {"checkpoint": str(arguments.gguf), "device": "cpu", "threads": arguments.threads, **found}
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
