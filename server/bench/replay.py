"""`midspan bench replay`: retypes lines of held-out files through the real server process over stdio.

A seed draws the lines: a file, then one of its lines that is not blank, comments and docstrings included. The line is
emptied but for its indent, while the rest of the file stands, and typed key by key. Like an editor, the client asks
after Enter (which opened the line) and after every key or acceptance; each answer replaces what was shown. A
suggestion that is not accepted is typed past. Settings are the server's own, but for a threshold that may be given. A
suggestion of several lines is never accepted. If the checkpoint looks at other files, the file's package is open as a
workspace.

Every line is typed under both RULES of acceptance; an acceptance costs one key. `saved` is the share of the lines'
characters (without indent) that no key was pressed for: 1 - (characters typed + acceptances) / characters, with a 95 %
bootstrap interval over files. A suggestion that is shown and not accepted counts as wrong after every key that leaves
it on screen; `suggestions` counts each once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
from lsprotocol import types
from rich.console import Console
from rich.progress import Progress

from midspan.server.bench.quality import RESAMPLES
from midspan.server.client.typist import (
    Typist,
    about_of,
    identify,
    percentiles,
    reads_workspace,
    server_command,
    typing,
)
from midspan.server.commands.errors import CommandError
from midspan.server.statistics import quantile

LEAST_PREFIX = 3
RULES = {
    "exact": "the first suggestion shown that is exactly the rest of the line is accepted, for one key",
    "prefix": "any suggestion that is the rest of the line, or its beginning and at least "
    f"{LEAST_PREFIX} characters long, is accepted whole, for one key",
}

Rule = Callable[[str, str], bool]


class File(msgspec.Struct, frozen=True):
    """One row of the corpus's held-out files."""

    package: str
    path: str
    text: str

    def place(self, root: Path) -> Path:
        """Where the file lies below a folder that holds the packages."""
        return root / self.package / self.path


class Ask(msgspec.Struct, frozen=True):
    """One request after one key: its column, and what was shown (empty for nothing).

    A suggestion that is typed along keeps its `id`.
    """

    column: int
    suggestion: str
    accepted: bool
    id: str = ""


class Line(msgspec.Struct, frozen=True):
    """One retyped line: its file, its characters without indent, the requests under each rule."""

    uri: str
    characters: int
    exact: list[Ask]
    prefix: list[Ask]


def accepts_exact(suggestion: str, rest: str) -> bool:
    """See RULES."""
    return bool(suggestion) and suggestion == rest


def accepts_prefix(suggestion: str, rest: str) -> bool:
    """See RULES."""
    return accepts_exact(suggestion, rest) or (len(suggestion) >= LEAST_PREFIX and rest.startswith(suggestion))


def read_files(file: Path) -> list[File]:
    """The rows of a heldout.jsonl, with LF line ends. Raises CommandError."""
    try:
        rows = file.read_bytes().splitlines()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; give the heldout.jsonl that the corpus command wrote") from error
    files = []
    for number, row in enumerate(rows, 1):
        try:
            found = msgspec.json.decode(row, type=File)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(f"{file}:{number}: {error}; give rows of package, path and text") from error
        if PurePosixPath(found.path).is_absolute() or ".." in PurePosixPath(found.package, found.path).parts:
            raise CommandError(f"{file}:{number}: {found.path}: give paths within a package")
        files.append(File(found.package, found.path, found.text.replace("\r\n", "\n").replace("\r", "\n")))
    if not any(found.text.strip() for found in files):
        raise CommandError(f"{file}: holds no line to type; give the heldout.jsonl that the corpus command wrote")
    return files


def draw(files: Sequence[File], limit: int, seed: int) -> list[tuple[File, list[int]]]:
    """`limit` lines, or all there are, drawn as a random file and a random line of it; in the files' order."""
    chance = random.Random(seed)
    left = {}
    for index, file in enumerate(files):
        rows = [row for row, line in enumerate(file.text.split("\n")) if line.strip()]
        chance.shuffle(rows)
        if rows:
            left[index] = rows
    drawn = defaultdict[int, list[int]](list)
    while left and limit:
        index = chance.choice(list(left))
        drawn[index].append(left[index].pop())
        limit -= 1
        if not left[index]:
            del left[index]
    return [(files[index], sorted(drawn[index])) for index in sorted(drawn)]


def ghost(item: types.InlineCompletionItem | None, line: str, column: int) -> str:
    """What a client shows behind the cursor; empty for an item that does not begin with the text it replaces."""
    if item is None:
        return ""
    start = column if item.range is None else item.range.start.character
    replaced, text = line[start:column], str(item.insert_text)
    return text[len(replaced) :] if text.startswith(replaced) else ""


class Typed(NamedTuple):
    """A line to type: its document, its row, and its text."""

    uri: str
    row: int
    text: str


async def type_on(typist: Typist, line: Typed, column: int, rule: Rule) -> list[Ask]:
    """Type a line from `column` to its end; returns every request on the way."""
    asks, (uri, row, text) = list[Ask](), line
    while True:
        item = await typist.ask(uri, types.Position(row, column))
        suggestion, rest = ghost(item, text, column), text[column:]
        accepted = rule(suggestion, rest)
        asks.append(Ask(column, suggestion, accepted, identify(item) if item is not None and suggestion else ""))
        if item is not None and suggestion:
            typist.say_shown(item)
        if accepted:
            assert item is not None
            typist.replace(uri, row, column, column, suggestion)
            await typist.say_accepted(item)
            column += len(suggestion)
        elif rest:
            typist.replace(uri, row, column, column, rest[0])
            column += 1
        else:
            return asks


async def retype(typist: Typist, uri: str, row: int, line: str) -> Line:
    """Type one line under both rules; the document holds it before and after."""
    body = line.rstrip()
    indent = len(body) - len(body.lstrip())
    typist.replace(uri, row, indent, len(line), "")
    typed = Typed(uri, row, body)
    exact = await type_on(typist, typed, indent, accepts_exact)
    prefix = exact
    for number, ask in enumerate(exact):
        if not ask.accepted and accepts_prefix(ask.suggestion, body[ask.column :]):
            typist.replace(uri, row, ask.column, len(body), ask.suggestion)
            ways_part = [*exact[:number], Ask(ask.column, ask.suggestion, accepted=True, id=ask.id)]
            on = ask.column + len(ask.suggestion)
            prefix = ways_part + await type_on(typist, typed, on, accepts_prefix)
            break
    return Line(uri, len(body) - indent, exact, prefix)


def lay_out(files: Sequence[File], root: Path) -> None:
    """Write the files below a folder, each in its package's."""
    for file in files:
        place = file.place(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(file.text, encoding="utf-8", newline="\n")


async def measure(
    drawn: Sequence[tuple[File, list[int]]],
    serve: Sequence[str],
    seed: int,
    workspace: Sequence[File] = (),
    options: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """All figures of one run; `serve` is the server's command line without its state folder, `options` its settings.

    While a file is typed, the files of its package in `workspace` are open as a folder.
    """
    typed = list[Line]()
    with tempfile.TemporaryDirectory(prefix="midspan-bench-") as folder:
        root = Path(folder).resolve() / "packages"
        lay_out(workspace, root)
        async with typing([*serve, "--state-dir", folder], options or {}) as typist:
            with Progress(console=Console(stderr=True)) as progress:
                bar, package = progress.add_task("replay", total=sum(len(rows) for _, rows in drawn)), ""
                for file, rows in drawn:
                    if workspace and file.package != package:
                        package = file.package
                        await typist.open_folder(root / package)
                    uri, lines = file.place(root).as_uri(), file.text.split("\n")
                    typist.open(uri, file.text)
                    for row in rows:
                        typed.append(await retype(typist, uri, row, lines[row]))
                        saved = 100 * saved_share([cost(line, line.exact) for line in typed])
                        progress.update(bar, advance=1, description=f"replay, {saved:.1f} % saved")
                    typist.close(uri)
            rss_mb = typist.peak_rss_mb()
    return {
        "files": len(drawn),
        "lines": len(typed),
        "characters": sum(line.characters for line in typed),
        "exact": {"rule": RULES["exact"], **summarise([(line, line.exact) for line in typed], seed)},
        "prefix": {"rule": RULES["prefix"], **summarise([(line, line.prefix) for line in typed], seed)},
        "response_ms": percentiles(typist.all_ms),
        "rss_mb": rss_mb,
    }


def cost(line: Line, asks: Sequence[Ask]) -> tuple[int, int]:
    """A line's characters, and the keys that it took: one a request but for the first, which follows Enter."""
    return line.characters, len(asks) - 1


def saved_share(costs: Sequence[tuple[int, int]]) -> float:
    """The share of characters that no key was pressed for."""
    return 1 - sum(keys for _, keys in costs) / sum(characters for characters, _ in costs)


def summarise(typed: Sequence[tuple[Line, list[Ask]]], seed: int) -> dict[str, Any]:
    """The figures of one rule; `keystrokes` counts Enter, characters and acceptances."""
    asks = [ask for _, line_asks in typed for ask in line_asks]
    shown, accepted = sum(bool(ask.suggestion) for ask in asks), sum(ask.accepted for ask in asks)
    suggestions = len({ask.id for ask in asks if ask.suggestion})
    return {
        "saved": saved_share([cost(line, line_asks) for line, line_asks in typed]),
        "ci95": list(interval(typed, seed)),
        "keystrokes": len(asks),
        "accepted": accepted,
        "shown_per_keystroke": shown / len(asks),
        "right_when_shown": accepted / shown if shown else None,
        "wrong_per_keystroke": (shown - accepted) / len(asks),
        "suggestions": suggestions,
        "right_of_suggestions": accepted / suggestions if suggestions else None,
    }


def interval(typed: Sequence[tuple[Line, list[Ask]]], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the saved share over files, since the lines of one file are not independent."""
    groups = defaultdict[str, list[tuple[int, int]]](list)
    for line, asks in typed:
        groups[line.uri].append(cost(line, asks))
    files, chance = list(groups.values()), random.Random(seed)
    shares = []
    for _ in range(RESAMPLES):
        shares.append(saved_share([one for file in chance.choices(files, k=len(files)) for one in file]))
    return quantile(shares, 0.025), quantile(shares, 0.975)


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures for a person."""
    typed = f"{found['lines']} lines of {found['files']} files, {found['characters']} characters"
    where = "their package's folder open" if found["workspace"] else "no folder open"
    yield f"{typed}, {where}; nothing shown below confidence {found['threshold']}"
    for name in RULES:
        rule = found[name]
        low, high = (100 * value for value in rule["ci95"])
        yield f"{name}: {rule['rule']}"
        yield f"  saved {100 * rule['saved']:.1f} % of the characters (95 % interval {low:.1f} to {high:.1f})"
        right = "" if rule["right_when_shown"] is None else f", {100 * rule['right_when_shown']:.1f} % of them right"
        yield f"  shown after {100 * rule['shown_per_keystroke']:.1f} % of {rule['keystrokes']} keystrokes{right}"
        yield f"  shown and wrong {100 * rule['wrong_per_keystroke']:.1f} times in 100 keystrokes"
        share = rule["right_of_suggestions"]
        yield f"  {rule['suggestions']} suggestions" + ("" if share is None else f", {100 * share:.1f} % of them right")
    yield "response " + ", ".join(f"{name} {ms} ms" for name, ms in found["response_ms"].items())
    peak = "unknown on this system" if found["rss_mb"] is None else f"{found['rss_mb']} MB"
    yield f"server's peak resident memory {peak}"


def replay_command(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    files = read_files(arguments.files)
    drawn = draw(files, arguments.limit, arguments.seed)
    about = about_of(arguments.checkpoint, arguments.device)
    serve = server_command(arguments.checkpoint, arguments.device, arguments.log_file)
    reads = arguments.workspace and reads_workspace(about)
    chosen = arguments.show_threshold
    options = {} if chosen is None else {"show_threshold": chosen}
    found = asyncio.run(measure(drawn, serve, arguments.seed, files if reads else (), options))
    found |= {"workspace": reads, "threshold": about.show_threshold if chosen is None else chosen}
    found |= {"checkpoint": about.checkpoint, "device": about.device}
    print(json.dumps(found) if arguments.json else "\n".join(lines(found)))
    return 0
