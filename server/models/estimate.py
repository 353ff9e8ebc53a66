"""How long a fill of a model that is not loaded would take here, from two measured speeds and its size."""

from __future__ import annotations

from collections.abc import Mapping

from midspan.engine.api import Speed
from midspan.server.models.at_hand import AtHand
from midspan.server.models.catalogue import EMBEDDED, catalogue

# A usual keystroke: what is new of the prompt, as the rest is in the cache, and a fill within a line.
PROMPT_TOKENS, FILL_TOKENS = 40, 10
HOW = f"a fill of {FILL_TOKENS} tokens with {PROMPT_TOKENS} new ones before it, from the size and this machine's speed"


def fill_ms(speed: Speed, in_layers: int, in_head: int) -> float | None:
    """Milliseconds; None where nothing is known.

    Each of PROMPT_TOKENS rows passes the layers, all at once. Each of FILL_TOKENS steps reads layers and head.
    """
    if speed.token is None or speed.row is None or not in_layers:
        return None
    prompt = PROMPT_TOKENS * speed.row * in_layers
    return 1000 * (prompt + FILL_TOKENS * speed.token * (in_layers + in_head))


def estimates(speed: Speed, hand: AtHand) -> Mapping[str, float]:
    """By the name of each model, at hand or not, that an estimate is to be had of; the embedded one's is measured."""
    found = {one.name: fill_ms(speed, one.in_layers, one.in_head) for one in catalogue().values()}
    for one in hand.models:
        if one.glance is not None and one.glance.layout == "marks":
            found[one.name] = fill_ms(speed, one.glance.in_layers, one.glance.in_head)
    known = {name: took for name, took in found.items() if took is not None}
    return known if speed.embedded_ms is None else {**known, EMBEDDED: speed.embedded_ms}
