"""A draft partly renoised: which of its tokens are denoised again, in what pieces, and their canvases."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from midspan.engine.canvas import Canvas
from midspan.engine.hypotheses.canvas_layouts import CanvasLayout
from midspan.engine.hypotheses.canvases import Block
from midspan.engine.hypotheses.hypothesis import Proposals
from midspan.engine.hypotheses.task import MAX_EACH, Task
from midspan.engine.prompts.prompt import Layout, Prompt

CANVASES = 3  # of each piece
# About as many tokens as one argument or one short expression.
RUN = 6
# 0.1 of 30 is 3, although its product in floats is a little more.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The tokens that stand in the gap, with the healed text, and which of them are free."""

    ids: tuple[int, ...]
    free: tuple[bool, ...]

    @classmethod
    def of(cls, prompt: Prompt, text: str, layout: Layout, strength: float, seed: int) -> Draft:
        """The draft `text` of a gap, with ceil(strength * n) of its n tokens free.

        Tokens that write nothing but healed text stay frozen and do not count.
        """
        ids = prompt.encode(layout.heal + text.removesuffix(layout.append))
        healed = healed_ids(prompt, ids, len(layout.heal))
        return cls(ids=tuple(ids), free=(False,) * healed + choose_free(len(ids) - healed, strength, seed))

    def pieces(self, size: int) -> list[tuple[int, int]]:
        """Spans [begin, end) of at most `size` tokens that cover all free ones; free tokens begin and end each."""
        spans: list[tuple[int, int]] = []
        for at, is_free in enumerate(self.free):
            if is_free and spans and at < spans[-1][0] + size:
                spans[-1] = (spans[-1][0], at + 1)
            elif is_free:
                spans.append((at, at + 1))
        return spans


def choose_free(count: int, strength: float, seed: int) -> tuple[bool, ...]:
    """Which of `count` tokens are renoised: exactly ceil(strength * count), the same for the same seed.

    They lie in separate runs of about RUN tokens, because what is worth changing (a name, an argument, a condition) is
    several tokens long. A single free token between two frozen ones is nearly determined by them, and would come back
    unchanged.
    """
    wanted = min(count, math.ceil(strength * count - ROUNDING))
    frozen = count - wanted
    runs = min(frozen + 1, -(-wanted // RUN))
    # Each run stands before a different frozen token, or behind the last, so that no two runs touch.
    places = sorted(random.Random(seed).sample(range(frozen + 1), runs))
    free = [False] * count
    begin = 0
    for number, place in enumerate(places):
        size = wanted // runs + (number < wanted % runs)
        free[place + begin : place + begin + size] = [True] * size
        begin += size
    return tuple(free)


def lay_draft(
    layout: CanvasLayout, ids: Sequence[int], free: Sequence[bool], each: int, banned: tuple[int, ...]
) -> Canvas:
    """`each` canvases of a draft's ids, some of them free, with suffix behind [each, at most the width].

    No slot may hold an id of `banned`.
    """
    row = [*ids, *layout.layout.suffix][: layout.width]
    mask = torch.zeros(each, len(row), dtype=torch.bool)
    mask[:, : len(free)] = torch.tensor(free, dtype=torch.bool)
    return Canvas(
        ids=torch.tensor(row).expand(each, -1).to(layout.device),
        free=mask.to(layout.device),
        allowed_first=layout.allowed_first(),
        banned=banned,
        gap=torch.full((each,), len(ids)),
    )


def rewrite(task: Task, strength: float) -> None:
    """Renoise a share of the hole's draft, piece by piece; later pieces keep the draft's tokens until their turn.

    If the time runs out before the last piece, nothing is ranked: half a rewrite is useless.
    """
    out, hole, laid = task.out, task.hole, task.layout
    draft = Draft.of(task.prompt, hole.draft, laid, strength, task.budget.seed)
    ids, size = list(draft.ids), max(task.settings.layout.block_slots)
    # Neither filler nor the end of a turn, so that the token count does not change.
    banned = tuple({*task.prompt.banned, *task.prompt.special_ids})
    each, pieces = max(CANVASES, min(MAX_EACH, task.budget.candidates)), draft.pieces(size)
    for number, (begin, end) in enumerate(pieces):
        before, behind = ids[:begin], ids[end:]
        prefix, suffix = [*laid.prefix, *before], [*behind, *laid.suffix]
        layout = Layout(prefix=prefix, suffix=suffix, heal="" if begin else laid.heal, append=laid.append)
        laying = CanvasLayout.of(task, layout, 2 * size)
        canvas = lay_draft(laying, ids[begin:end], draft.free[begin:end], each, banned)
        ranked = Block(task, layout, task.rng(number)).denoise(canvas, task.plan, Proposals())
        interrupted = task.observer.interrupted()
        if interrupted or (out.stopped == "deadline" and end < pieces[-1][1]):
            out.ranked, out.stopped = [], "cancelled" if interrupted else "deadline"
            return
        whole = task.checker.order([replace(one, ids=(*before, *one.ids, *behind)) for one in ranked])
        out.ranked = [out.ranked[0].combined(one) for one in whole] if out.ranked else whole
        ids = list(whole[0].ids)


def healed_ids(prompt: Prompt, ids: list[int], characters: int) -> int:
    """How many leading ids must stay frozen for the healed characters to be repeated.

    The first id may be free if it extends beyond them: token healing only allows tokens that begin with them.
    """
    count = 0
    while count < len(ids) and len(prompt.decode(ids[: count + 1])) <= characters:
        count += 1
    straddles = 0 < count < len(ids) and len(prompt.decode(ids[:count])) < characters
    return count + straddles
