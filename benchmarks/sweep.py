"""Counts faulty fills at kinds of place where fills have gone wrong, in files of Python's standard library.

`python benchmarks/sweep.py [--files 20] [--places 80] [--kinds "next line" ...] [--json]` runs the embedded checkpoint
through the server's own functions, from the document to the items. Automatic requests have the checkpoint's threshold;
explicit ones get up to three items. It counts the places where anything is shown and, among all items, those that break
a file that parsed (by Python's own parser), those that repeat a line that is there already, those that run into the
letters behind them, and those that replace a placeholder by another.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lsprotocol import types
from sweep_places import KINDS, Lines, Place, breaks, cuts, draw, filled, repeats

from midspan.engine.api import Budget, Engine
from midspan.server import completion
from midspan.server.actions import BY_NAME, choices
from midspan.server.postprocess.misplaced import nothing_fits
from midspan.server.suggestions import Suggestions
from midspan.server.text.documents import Document
from midspan.server.text.syntax_check import load_with_syntax

LEAST_LINES, MOST_LINES = 150, 1500
NOTHING = re.compile(r"(?:\s*(?:#.*|pass|\.\.\.|return(?: None)?)?)*\Z")
COUNTS = ("places", "shown", "items", "breaks", "repeats", "cut", "nothing")
KIND_OF_ACTION = "placeholder"
# Few automatic requests show anything, so they get this many times as many places.
AUTOMATIC_TIMES = 3


@dataclass(frozen=True, slots=True)
class Item:
    """An item: the text that it inserts, the whole text afterwards, and the column where the insertion ends."""

    inserted: str
    text: str
    end: int


Ask = Callable[[Engine, Place], Iterator[Item]]


def standard_library(count: int) -> list[Lines]:
    """Lines of `count` files of the standard library, always the same ones for one Python version."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    random.Random(0).shuffle(paths)
    texts = (path.read_text(encoding="utf-8") for path in paths)
    return [text.split("\n") for text in texts if LEAST_LINES <= text.count("\n") <= MOST_LINES][:count]


def completions(engine: Engine, place: Place, *, invoked: bool) -> Iterator[Item]:
    """The items of an inline completion."""
    kinds = types.InlineCompletionTriggerKind
    document = Document("file:///sweep.py", "python", 1, place.text)
    params = types.InlineCompletionParams(
        types.InlineCompletionContext(kinds.Invoked if invoked else kinds.Automatic),
        types.TextDocumentIdentifier(document.uri),
        types.Position(place.row, place.column),
    )
    spot = completion.spot_of(document, params, "utf-32")
    if spot is None:
        return
    threshold = engine.about.show_threshold
    asked = completion.completion_at(document, spot, lambda _, __, hole: hole, invoked=invoked)
    if nothing_fits(asked.hole):
        return
    budget = Budget(candidates=3 if invoked else 1, min_confidence=0.0 if invoked else threshold)
    fill = engine.fill(asked.hole, budget).result()
    threshold = Suggestions().wary(threshold, document, spot.start)
    start, end = asked.range.start.character, asked.range.end.character
    found = completion.judge(asked, fill, threshold)
    for text, _ in completion.choices(asked, found, completion.Source(engine.about.checkpoint)):
        last = len(text) - text.rfind("\n") - 1
        yield Item(text, filled(place, text, (start, end)), last if "\n" in text else start + last)


def by_itself(engine: Engine, place: Place) -> Iterator[Item]:
    """The items of an automatic request, as an editor sends it while somebody types."""
    return completions(engine, place, invoked=False)


def by_a_person(engine: Engine, place: Place) -> Iterator[Item]:
    """The items of an explicit request."""
    return completions(engine, place, invoked=True)


def action(engine: Engine, place: Place) -> Iterator[Item]:
    """The first item of the code action "fill the placeholder"."""
    document, at = Document("file:///sweep.py", "python", 1, place.text), (place.row, place.column)
    change = BY_NAME["placeholder"].plan(document, at, at)
    if change is None:
        return
    fill = engine.fill(change.hole, Budget(candidates=3)).result()
    for text in choices(change, fill)[:1]:
        yield Item(text, filled(place, text, (change.start[1], change.end[1])), change.start[1] + len(text))


def tally(engine: Engine, places: Iterator[Place], ask: Ask) -> dict[str, int]:
    """Request items at every place and count them and their faults."""
    found = dict.fromkeys(COUNTS, 0)
    for place in places:
        items = list(ask(engine, place))
        found["places"] += 1
        found["shown"] += bool(items)
        found["items"] += len(items)
        for item in items:
            found["breaks"] += breaks(place, item.text)
            found["repeats"] += repeats(place, item.text)
            found["cut"] += cuts(place, item.text, item.end)
            found["nothing"] += ask is action and NOTHING.match(item.inserted) is not None
    return found


def table(rows: list[dict[str, object]]) -> str:
    """The rows as Markdown."""
    names = ("kind", "asked", *COUNTS)
    lines = [names, ["---"] * len(names), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    """Read the command line, count at every place, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument(
        "--places", type=int, default=80, help="of each kind; three times as many for automatic requests"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND")
    parser.add_argument("--json", action="store_true", help="one JSON object, as record.py wants it")
    args = parser.parse_args()
    engine, files = load_with_syntax("embedded", "cpu"), standard_library(args.files)
    rows: list[dict[str, object]] = []
    for kind in args.kinds:
        asks: dict[str, Ask] = {"automatic": by_itself, "explicit": by_a_person}
        for name, ask in {"action": action}.items() if kind == KIND_OF_ACTION else asks.items():
            places = draw(kind, files, args.places * (AUTOMATIC_TIMES if name == "automatic" else 1))
            rows.append({"kind": kind, "asked": name, **tally(engine, places, ask)})
            sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    engine.close()
    found = {"files": len(files), "checkpoint": "embedded", "device": "cpu", "kinds": rows}
    sys.stdout.write(json.dumps(found) + "\n" if args.json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
