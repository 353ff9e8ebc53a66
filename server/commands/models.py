"""`midspan models`: what is at hand, what suits this machine; and to take, to fetch and to remove one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

import midspan.engine
from midspan.engine.api import CheckpointError, DeviceError, Speed
from midspan.server.commands.errors import CommandError
from midspan.server.models.at_hand import Found, at_hand
from midspan.server.models.catalogue import EMBEDDED, catalogue
from midspan.server.models.configuration import (
    Configuration,
    choose,
    configuration_file,
    read_configuration,
    write_configuration,
)
from midspan.server.models.estimate import estimates
from midspan.server.models.hub import remove
from midspan.server.models.listing import Listing, as_json, as_text, plain, size
from midspan.server.models.machine import this_machine
from midspan.server.models.places import hub_cache


def list_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print what is at hand and what is recommended."""
    choice, hand = choose(arguments.checkpoint, configuration_file(environment)), at_hand(environment)
    speed = _speed(arguments.device) if arguments.estimate else None
    times = {} if speed is None else estimates(speed, hand)
    listing = Listing(hand=hand, machine=this_machine(speed), choice=choice, fill_ms=times)
    print(json.dumps(as_json(listing)) if arguments.json else as_text(listing))
    return 0


def _speed(device: str) -> Speed | None:
    """How fast networks are here; None, and why, where that cannot be measured."""
    try:
        return midspan.engine.speed(device)
    except (CheckpointError, DeviceError) as error:
        _say(f"midspan: nothing is estimated: {error}")
        return None


def use_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Make a model the one that is taken where `--checkpoint` names none."""
    found, file = _one(arguments.name, environment), configuration_file(environment)
    if found.problem is not None:
        raise CommandError(f"{plain(found.name)}: {plain(found.problem, 200)}; midspan models lists those that run")
    if found.checkpoint.encode(errors="replace").decode() != found.checkpoint:
        raise CommandError(f"{plain(found.checkpoint, 200)}: its name is not in UTF-8; give it another")
    write_configuration(file, replace(_readable(file), checkpoint=found.checkpoint))
    print(f"{plain(found.name)} is taken from now on, by {file}; restart midspan in editors that are open")
    return 0


def get_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Fetch a model of the catalogue, unless it is at hand."""
    name = arguments.name
    if (model := catalogue().get(name)) is None:
        raise CommandError(f"{plain(name)}: not known; midspan models get fetches one of {', '.join(catalogue())}")
    if any(one.known == model and one.problem is None for one in at_hand(environment).models):
        print(f"{name} is at hand; take it with: midspan models use {name}")
        return 0
    if find_spec("huggingface_hub") is None:
        raise CommandError("huggingface_hub is not installed; run python -m pip install huggingface-hub")
    from midspan.server.models.fetch import fetch

    terms = f", {model.terms}" if model.terms else ""
    _say(f"{name} from {model.repository}; licence: {model.licence}{terms}")
    path = fetch(model, hub_cache(environment), _say)
    if (problem := midspan.engine.glance(path).problem) is not None:
        raise CommandError(f"{name}: fetched to {path}, but midspan does not run it: {problem}")
    print(f"{name} is at hand now, in {path}; take it with: midspan models use {name}")
    return 0


def remove_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Remove a model from the hub's cache."""
    found = _one(arguments.name, environment)
    if found.hub is None:
        where = "it is part of midspan" if found.program == "midspan" else f"{found.program} keeps it; remove it there"
        raise CommandError(f"{plain(found.name)}: {where}")
    freed = remove(hub_cache(environment), found.hub)
    print(f"{plain(found.name)} is removed, {size(freed)} are free")
    file = configuration_file(environment)
    if (configuration := read_configuration(file)).checkpoint == found.checkpoint:
        write_configuration(file, replace(configuration, checkpoint=None))
        print(f"it was in use; {EMBEDDED} is taken from now on, by the default")
    return 0


def _readable(file: Path) -> Configuration:
    """What stands in the file, or nothing where it cannot be read: to choose a model anew is the way out of that."""
    try:
        return read_configuration(file)
    except CommandError:
        return Configuration()


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _one(name: str, environment: Mapping[str, str]) -> Found:
    """The model at hand that a name or a path means. Raises CommandError."""
    hand = at_hand(environment)
    found = hand.named(name)
    if not found:
        raise CommandError(f"{plain(name)}: not at hand; midspan models lists what is, and what can be fetched")
    if len(found) > 1:
        paths = ", ".join(plain(one.checkpoint, 200) for one in found)
        raise CommandError(f"{plain(name)}: several have this name; give one by its path: {paths}")
    return found[0]
