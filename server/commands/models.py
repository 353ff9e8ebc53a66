"""`midspan models`: what is at hand, what suits this machine; and to take, to fetch and to remove one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

import midspan.engine
from midspan.engine.api import Speed
from midspan.server.commands.errors import CommandError
from midspan.server.models.at_hand import Found, at_hand
from midspan.server.models.configuration import Configuration, choose, configuration_file, write_configuration
from midspan.server.models.estimate import estimates
from midspan.server.models.listing import Listing, as_json, as_text, plain
from midspan.server.models.machine import this_machine


def list_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print what is at hand and what is recommended."""
    choice, hand = choose(None, configuration_file(environment)), at_hand(environment)
    speed = midspan.engine.speed() if arguments.estimate else Speed()
    machine = this_machine(speed.gpu, speed.gpu_bytes)
    listing = Listing(hand=hand, machine=machine, choice=choice, fill_ms=estimates(speed, hand))
    print(json.dumps(as_json(listing)) if arguments.json else as_text(listing))
    return 0


def use_command(arguments: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Make a model the one that is taken where `--checkpoint` names none."""
    found, file = _one(arguments.name, environment), configuration_file(environment)
    if found.problem is not None:
        raise CommandError(f"{plain(found.name)}: {found.problem}; midspan models lists those that run")
    write_configuration(file, Configuration(checkpoint=found.checkpoint))
    print(f"{plain(found.name)} is taken from now on, by {file}; restart midspan in editors that are open")
    return 0


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
