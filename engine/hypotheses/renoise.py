"""A draft partly renoised: which of its tokens are thrown again, in what pieces, and the canvas of one piece."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from midspan.engine.canvas import Canvas
from midspan.engine.prompts.prompt import Layout, Prompt

DRAWS = 3
# About the tokens of one argument or one short expression.
RUN = 6
# A share such as 0.1 of 30 is 3, whatever floats make of it.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The tokens that stand in the gap, healed text included, and which of them are free."""

    ids: tuple[int, ...]
    free: tuple[bool, ...]

    @classmethod
    def of(cls, prompt: Prompt, text: str, layout: Layout, strength: float, seed: int) -> Draft:
        """The draft `text` of a gap, with ceil(strength * n) of its n tokens free.

        What writes nothing but healed text is no token of the draft: it stays, and does not count.
        """
        ids = prompt.encode(layout.heal + text.removesuffix(layout.append))
        healed = _healed(prompt, ids, len(layout.heal))
        return cls(ids=tuple(ids), free=(False,) * healed + choose_free(len(ids) - healed, strength, seed))

    def pieces(self, size: int) -> list[tuple[int, int]]:
        """Spans [begin, end) of at most `size` tokens that hold all free ones, each from a free token to a free one."""
        spans: list[tuple[int, int]] = []
        for at, is_free in enumerate(self.free):
            if is_free and spans and at < spans[-1][0] + size:
                spans[-1] = (spans[-1][0], at + 1)
            elif is_free:
                spans.append((at, at + 1))
        return spans


def choose_free(count: int, strength: float, seed: int) -> tuple[bool, ...]:
    """Which of `count` tokens are renoised: exactly ceil(strength * count), the same for the same seed.

    They lie in runs of about RUN that do not touch each other, as what is worth changing (a name, an argument, a
    condition) is several tokens long. A single token between two that stay is all but determined by them: salt and
    pepper would hand back what stood there.
    """
    wanted = min(count, math.ceil(strength * count - ROUNDING))
    frozen = count - wanted
    runs = min(frozen + 1, -(-wanted // RUN))
    # Each run stands before another frozen token, or behind the last, so that no two of them meet.
    places = sorted(random.Random(seed).sample(range(frozen + 1), runs))
    free = [False] * count
    begin = 0
    for number, place in enumerate(places):
        size = wanted // runs + (number < wanted % runs)
        free[place + begin : place + begin + size] = [True] * size
        begin += size
    return tuple(free)


def lay_draft(
    prompt: Prompt, ids: Sequence[int], free: Sequence[bool], draws: int, layout: Layout, width: int,
    device: torch.device,
) -> Canvas:  # fmt: skip
    """`draws` canvases of one piece [draws, at most width], the layout's suffix behind it.

    No slot may hold filler or the end of a turn: as many tokens come out as went in.
    """
    row = [*ids, *layout.suffix][:width]
    frees = torch.zeros(draws, len(row), dtype=torch.bool)
    frees[:, : len(free)] = torch.tensor(free, dtype=torch.bool)
    allowed = prompt.allowed_first(layout.heal)
    return Canvas(
        ids=torch.tensor(row).expand(draws, -1).to(device),
        free=frees.to(device),
        allowed_first=None if allowed is None else allowed.to(device),
        banned=tuple({*prompt.banned, *prompt.special_ids}),
        gap=torch.full((draws,), len(ids)),
    )


def _healed(prompt: Prompt, ids: list[int], characters: int) -> int:
    """How many leading ids must stay for the healed characters to be repeated.

    The first id may be free if it goes on behind them: token healing holds it to what begins with them.
    """
    count = 0
    while count < len(ids) and len(prompt.decode(ids[: count + 1])) <= characters:
        count += 1
    straddles = 0 < count < len(ids) and len(prompt.decode(ids[:count])) < characters
    return count + straddles
