"""`midspan bench load`: one backend under the typing of many people, in one process.

What a person does is said in people.py. An engine elsewhere is asked on a connection of each person's own, as by that
many editors. The local checkpoint is loaded once; people take turns at it, as no two of its fills run at once. Its
figures say what a device can do, since midspan has no server that several editors share.

`first_useful_ms` runs from the key that asked to the suggestion, of those that were accepted. `queue_ms` is what is
left of an answer's time without the work on it, where that is known: of the local engine and of a llama-server. A
device is held for the whole run, busy or not, so an accepted edit costs the run's seconds over the number of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from midspan.engine.api import Engine
from midspan.server.backends.configured import Configured, read_configured
from midspan.server.backends.engines import engine_named
from midspan.server.backends.schema import Backend
from midspan.server.bench.load_figures import Device, elsewhere, figures, here, lines
from midspan.server.bench.load_requests import Tally, Turns, Watched
from midspan.server.bench.people import HUMAN, Person, Text, type_for
from midspan.server.bench.replay import read_files
from midspan.server.commands.errors import CommandError
from midspan.server.commands.loading import load_shown
from midspan.server.text.languages import BY_EXTENSION, PLAIN

OWN_SOURCE = Path(__file__).parents[1]
CORPUS = ".jsonl"
DRAWN_S = 0.5
RHYTHM = HUMAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """A backend: an engine for each person, how to end them, and what is known of its work after a run."""

    engines: Sequence[Engine]
    close: Callable[[], None]
    device: Callable[[Tally], Device]


def texts_of(files: Sequence[Path] | None) -> list[Text]:
    """What is typed. Raises CommandError for a file that cannot be."""
    if files is None:
        own = [_text(file) for file in sorted(OWN_SOURCE.rglob("*.py"))]
        return [text for text in own if text.text.strip()]
    texts = []
    for file in files:
        if file.suffix == CORPUS:
            texts += [Text("python", one.text) for one in read_files(file) if one.text.strip()]
        elif (text := _text(file)).text.strip():
            texts.append(text)
        else:
            raise CommandError(f"{file}: holds no line to type; give another")
    return texts


def _text(file: Path) -> Text:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; give source files that can be read") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: not UTF-8 at byte {error.start}; convert it first") from error
    lf = text.replace("\r\n", "\n").replace("\r", "\n")
    return Text(BY_EXTENSION.get(file.suffix.lower(), PLAIN.name), lf)


def driven_by(arguments: argparse.Namespace, configured: Configured, tally: Tally) -> Driven:
    """The backend that is named, ready. Raises CommandError, with one line, where nobody has the name or it is not."""
    if (backend := configured.named(arguments.backend)) is not None:
        return _elsewhere(backend, arguments.users, tally)
    engine = engine_named(
        arguments.backend, lambda: load_shown(arguments.checkpoint, arguments.device), configured, "--backend"
    )
    turns = Turns(engine)
    engines = [Watched(turns, tally, elsewhere=False) for _ in range(arguments.users)]
    return Driven(engines=engines, close=turns.close, device=here)


def _elsewhere(backend: Backend, users: int, tally: Tally) -> Driven:
    from midspan.server.backends.remotes import counts_of, healths_of, member_of, reading_of, remote_of

    (health,) = healths_of(remote_of(backend), 1)
    if health.state != "ready" or not health.infill:
        raise CommandError(health.problem or f"{backend.name} serves a model that fills no gaps; serve one that does")
    before: Mapping[str, float] = counts_of(backend)
    member = member_of(backend, "configuration")
    engines = [Watched(member.connect(), tally, elsewhere=True) for _ in range(users)]
    token_by_token = reading_of(backend) == "autoregressive"

    def close() -> None:
        for engine in engines:
            engine.close()

    def device(tally: Tally) -> Device:
        return elsewhere(tally, before, counts_of(backend), token_by_token=token_by_token)

    return Driven(engines=engines, close=close, device=device)


def measure(arguments: argparse.Namespace, configured: Configured, texts: Sequence[Text]) -> dict[str, Any]:
    """All figures of one run, of as much as there is of one that is interrupted. Raises CommandError."""
    tally, interrupted = Tally(), False
    driven = driven_by(arguments, configured, tally)
    try:
        about = driven.engines[0].about
        people = [
            Person(number, texts[number % len(texts)], engine, tally, RHYTHM)
            for number, engine in enumerate(driven.engines)
        ]
        try:
            with Progress(console=Console(stderr=True)) as progress:
                work = [*(person.type_on() for person in people), _draw(progress, arguments.seconds, tally)]
                asyncio.run(type_for(arguments.seconds, work, tally))
        except KeyboardInterrupt:
            interrupted = True
        tally.end()
        device = driven.device(tally)
    finally:
        driven.close()
    run = {"users": arguments.users, "texts": min(len(texts), arguments.users), "interrupted": interrupted}
    found = {"backend": arguments.backend, **run, **figures(tally, device, arguments.price_per_hour)}
    return found | {"checkpoint": about.checkpoint, "device": about.device}


async def _draw(progress: Progress, seconds: float, tally: Tally) -> None:
    """Show how far the run is, without end."""
    bar = progress.add_task("typing", total=seconds)
    while True:
        await asyncio.sleep(DRAWN_S)
        done = time.perf_counter() - tally.began
        progress.update(bar, completed=done, description=f"typing, {len(tally.useful_ms)} accepted")


def load_command(arguments: argparse.Namespace) -> int:
    """Measure and print; 130 if that was interrupted."""
    texts = texts_of(arguments.files)
    found = measure(arguments, read_configured(arguments.engines_file), texts)
    print(json.dumps(found) if arguments.json else "\n".join(lines(found)))
    return 130 if found["interrupted"] else 0
