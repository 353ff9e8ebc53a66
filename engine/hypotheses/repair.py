"""Parse-guided renoising: the tokens of a fill that stand in a syntax error are thrown again, the others stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from midspan.engine.canvas import Canvas
from midspan.engine.prompts.prompt import Layout, Prompt

DRAWS = 3


def spoilt_slots(prompt: Prompt, ids: Sequence[int], layout: Layout, spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Which of a gap's ids write characters of `spans` [begin, end) of the inserted text."""
    shift, slots, written = len(layout.heal), [], 0
    for count in range(1, len(ids) + 1):
        begin, written = written, len(prompt.decode(list(ids[:count])))
        slots.append(any(begin - shift < stop and start < written - shift for start, stop in spans))
    return slots


def lay_repairs(
    prompt: Prompt, ids: Sequence[int], spoilt: Sequence[bool], layout: Layout, width: int, device: torch.device
) -> Canvas:
    """DRAWS canvases of one fill [DRAWS, width] whose spoilt tokens are free; the suffix follows the gap at once."""
    row = [*ids, *layout.suffix][:width]
    free = torch.zeros(DRAWS, len(row), dtype=torch.bool)
    free[:, : len(ids)] = torch.tensor(spoilt, dtype=torch.bool)
    allowed = prompt.allowed_first(layout.heal)
    return Canvas(
        ids=torch.tensor(row).expand(DRAWS, -1).to(device),
        free=free.to(device),
        allowed_first=None if allowed is None else allowed.to(device),
        banned=prompt.banned,
        gap=torch.full((DRAWS,), len(ids)),
    )
