"""Every model that lies on this machine, each with what its headers say. Nothing is fetched, and no weight is read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import midspan.engine
from midspan.engine.api import Glance
from midspan.server.models.catalogue import EMBEDDED, Known, published_as
from midspan.server.models.hub import HubModel, hub_models
from midspan.server.models.ollama import ollama_models
from midspan.server.models.places import Place, Program, places
from midspan.server.models.walk import Note, files_below

# Headers are looked into for so long; a large vocabulary takes some 60 ms of that.
PATIENCE_S = 2.0
EMBEDDED_FOLDER = Path(midspan.engine.__file__).parent / "checkpoints" / "embedded"
EMBEDDED_LICENCE = "Apache-2.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model at hand: its name for `midspan models use`, what `--checkpoint` takes, and the program that keeps it.

    `glance` is None where time was up before it was looked into.
    """

    name: str
    checkpoint: str
    program: Program
    licence: str | None = None
    hub: HubModel | None = None
    known: Known | None = None
    glance: Glance | None = None

    @property
    def problem(self) -> str | None:
        """Why it does not run; None if it does, as far as is known."""
        return None if self.glance is None else self.glance.problem


@dataclass(frozen=True, slots=True)
class AtHand:
    """The models, and a line for each folder or file that could not be looked into."""

    models: tuple[Found, ...]
    notes: tuple[str, ...]

    def named(self, name: str) -> list[Found]:
        """Those of a name, or the one at a path."""
        return [one for one in self.models if name in (one.name, one.checkpoint)]


def at_hand(environment: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> AtHand:
    """Look into every place, the embedded model first; a file that two places share is listed once."""
    notes, models, seen = list[str](), list[Found](), set[tuple[int, int]]()
    until = clock() + PATIENCE_S
    for found in _all(environment, notes.append):
        if (print_ := _print(found.checkpoint)) is not None:
            if print_ in seen:
                continue
            seen.add(print_)
        if clock() < until:
            glance = midspan.engine.glance(_path(found.checkpoint))
            found = replace(found, glance=glance, licence=found.licence or glance.licence)
        models.append(found)
    if late := sum(one.glance is None for one in models):
        notes.append(f"{late} models were not looked into, as there are many; midspan doctor --checkpoint tries one")
    return AtHand(tuple(models), tuple(notes))


def _all(environment: Mapping[str, str], note: Note) -> Iterator[Found]:
    yield Found(name=EMBEDDED, checkpoint=EMBEDDED, program="midspan", licence=EMBEDDED_LICENCE)
    for place in places(environment):
        if place.program == "hub cache":
            yield from _in_hub_cache(place, note)
        elif place.program == "Ollama":
            for model in ollama_models(place.folder, note):
                yield Found(name=model.name, checkpoint=str(model.file), program=place.program, licence=model.licence)
        else:
            for file in files_below(place.folder, note):
                if file.suffix == ".gguf":
                    yield Found(name=file.stem, checkpoint=str(file), program=place.program)


def _in_hub_cache(place: Place, note: Note) -> Iterator[Found]:
    for model in hub_models(place.folder, note):
        known = published_as(model.repository, model.file)
        name = Path(model.file).stem if model.file else model.repository
        yield Found(
            name=known.name if known else name,
            checkpoint=str(model.path),
            program=place.program,
            licence=known.licence if known else None,
            hub=model,
            known=known,
        )


def _path(checkpoint: str) -> Path:
    return EMBEDDED_FOLDER if checkpoint == EMBEDDED else Path(checkpoint)


def _print(checkpoint: str) -> tuple[int, int] | None:
    """What tells a file from others, whatever links lead to it; None for one that is gone."""
    try:
        state = os.stat(_path(checkpoint))
    except OSError:
        return None
    return state.st_dev, state.st_ino
