"""Compares two sides before a release, in one run: `benchmarks/gate.py A B [--quick]`.

A and B are git revisions, folders of checkouts, or checkpoints, which this checkout runs. Both do the same work by
turns (comparing/rounds.py): gaps are filled (`pass@1`), lines retyped through the real server with its shipped
settings, where the exact rest of a line is taken for one key (`keys saved`, `wrong shows in 100 keys`, as `bench
replay` counts them), and keys typed without taking anything (`keystroke p50` and `p95`: what an editor waits for an
answer, from memory or engine). `peak memory` is the server's. B is `better` or `worse` than A, or there is `no
difference`, by tests and a level that comparing/verdicts.py states. The exit code is 0 unless B is worse in something:
then 1; 2 where nothing was compared.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

# As a program beside these files, and as a module of the tests; the client that types is this checkout's own.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from benchmarks.comparing.checkouts import Model, Side, both
from benchmarks.comparing.plan import QUICK, WHOLE, Work, plan, standard_library
from benchmarks.comparing.rounds import MEASURES, compare_sides
from benchmarks.comparing.verdicts import LEVEL, Compared, compare
from midspan.server.bench.quality import Task, read_tasks
from midspan.server.bench.replay import read_files
from midspan.server.commands.errors import CommandError

ROOT = Path(__file__).parents[1]
TASKS = ROOT / "fixtures/bench/mbpp-sample.jsonl"
KEYSTROKE = ROOT / "fixtures/keystroke"
# How long a run takes on two cores with the embedded checkpoint; of a revision whose kernels are built, a minute more.
QUICK_TAKES, WHOLE_TAKES = "5 minutes", "half an hour"


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("a", "b"):
        parser.add_argument(name, metavar=name.upper(), help="a revision, a checkout's folder, or a checkpoint")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TAKES} in place of {WHOLE_TAKES}")
    parser.add_argument("--tasks", type=Path, default=TASKS, help="single-line gaps in HumanEval-Infilling's schema")
    files = "the corpus's heldout.jsonl, whose lines are retyped; the standard library if not given"
    parser.add_argument("--files", type=Path, help=files)
    parser.add_argument("--checkpoint", default="embedded", help="what sides load that are checkouts")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="which gaps and lines, and the order of turns")
    parser.add_argument("--json", action="store_true", help="print one object")
    return parser.parse_args(argv)


def work_of(arguments: argparse.Namespace) -> Work:
    """What both sides do. Raises CommandError for files that cannot be read."""
    size = QUICK if arguments.quick else WHOLE
    tasks: list[Task] = read_tasks(arguments.tasks, size.tasks, arguments.seed)
    files = standard_library() if arguments.files is None else read_files(arguments.files)
    return plan(tasks, files, KEYSTROKE, size, arguments.seed)


def run(arguments: argparse.Namespace) -> tuple[tuple[Side, Side], list[Compared]]:
    """The sides, and every measure with its verdict. Raises CommandError."""
    work, model = work_of(arguments), Model(arguments.checkpoint, arguments.device)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="midspan-gate-"))).resolve()
        sides = stack.enter_context(both((arguments.a, arguments.b), ROOT, scratch, model))
        tally = asyncio.run(compare_sides(sides, work, arguments.seed))
    return sides, compare(tally.pairs(), arguments.seed)


def lines(sides: tuple[Side, Side], found: Sequence[Compared], minutes: float) -> Iterator[str]:
    """The table, for a person."""
    yield f"A  {sides[0].words}"
    yield f"B  {sides[1].words}"
    yield f"{'':25}{'A':>9}{'B':>9}   {'B - A, 95 % interval':29}{'chance':>7}   B is"
    for one in found:
        least = f"{one.b - one.a:+.2f} ({one.low:+.2f} to {one.high:+.2f}) {one.measure.unit}"
        yield f"{one.measure.name:25}{one.a:9.2f}{one.b:9.2f}   {least:29}{one.chance:7.3f}   {one.verdict}"
    for one in found:
        yield f"{one.measure.name}: {one.differing} of {one.units} {one.measure.units} differ"
    for name in {measure.name for measure in MEASURES} - {one.measure.name for one in found}:
        yield f"{name}: unknown on this system"
    yield f"chance: of a difference as great between equal sides, by Holm for all measures; {LEVEL} or less counts"
    yield f"took {minutes:.1f} minutes"


def as_object(sides: tuple[Side, Side], found: Sequence[Compared], arguments: argparse.Namespace) -> str:
    """The same as JSON, as `record.py` takes it."""
    measures = {one.measure.name: dataclasses.asdict(one) for one in found}
    for one in measures.values():
        one["unit"] = one.pop("measure")["unit"]
    named = {"a": sides[0].words, "b": sides[1].words, "quick": arguments.quick}
    return json.dumps(named | {"measures": measures, "checkpoint": arguments.checkpoint, "device": arguments.device})


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print, and say by the exit code whether B is worse."""
    arguments, began = arguments_of(argv), time.perf_counter()
    takes = QUICK_TAKES if arguments.quick else WHOLE_TAKES
    sys.stderr.write(f"gate: this takes about {takes} on two cores\n")
    try:
        sides, found = run(arguments)
    except CommandError as error:
        sys.stderr.write(f"gate: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("gate: interrupted\n")
        return 130
    minutes = (time.perf_counter() - began) / 60
    out = [as_object(sides, found, arguments)] if arguments.json else lines(sides, found, minutes)
    sys.stdout.write("\n".join(out) + "\n")
    return int(any(one.verdict == "worse" for one in found))


def end(signal_number: int, frame: object) -> None:
    """End as by an error: servers are stopped, and what was checked out is removed."""
    sys.exit(128 + signal_number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    sys.exit(main())
