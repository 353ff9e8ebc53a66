"""GGUF's forms of numbers, in blocks with scales of their own, as float32; plain torch, equal to gguf's own reading.

Source: gguf 0.19.0, quants.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from midspan.engine.weights.gguf_header import SIZES

Groups = tuple[Tensor, Tensor, Tensor]
"""Of blocks: four-bit codes [B, N], and the scales and offsets [B, N / 32] of their groups, in float32."""


def numbers(data: Tensor, form: str) -> Tensor:
    """Bytes (uint8) of whole blocks to float32, one after another."""
    if form in PLAIN:
        return data.view(PLAIN[form]).float()
    (count, size), read = SIZES[form], READERS[form]
    blocks = data.view(-1, size)
    out = torch.empty(len(blocks), count)
    # Some at a time, whose intermediate numbers stay in the cache.
    for first in range(0, len(blocks), BLOCKS_TOGETHER):
        out[first : first + BLOCKS_TOGETHER] = read(blocks[first : first + BLOCKS_TOGETHER])
    return out.flatten()


def _half(blocks: Tensor, at: int) -> Tensor:
    """The float16 at a byte of each block [B, 1]."""
    return blocks[:, at : at + 2].contiguous().view(torch.float16).float()


def _nibbles(blocks: Tensor, group: int) -> Tensor:
    """Bytes [B, N] to the low and then the high halves of each group of bytes [B, N / group, 2, group]."""
    parts = blocks.unflatten(1, (-1, 1, group))
    return torch.cat((parts & 15, parts >> 4), dim=2)


def _groups_q4_0(blocks: Tensor) -> Groups:
    scale = _half(blocks, 0)
    return _nibbles(blocks[:, 2:], 16).flatten(1), scale, -8 * scale


def _groups_q4_1(blocks: Tensor) -> Groups:
    return _nibbles(blocks[:, 4:], 16).flatten(1), _half(blocks, 0), _half(blocks, 2)


def _groups_q4_k(blocks: Tensor) -> Groups:
    """Eight groups of 32 with scales and minima of six bits each."""
    first, second, third = blocks[:, 4:16].unflatten(1, (3, 4)).unbind(1)
    scales = torch.cat((first & 63, third & 15 | first >> 2 & 48), dim=1).float()
    minima = torch.cat((second & 63, third >> 4 | second >> 2 & 48), dim=1).float()
    codes = _nibbles(blocks[:, 16:], 32).flatten(1)
    return codes, _half(blocks, 0) * scales, -_half(blocks, 2) * minima


def _of_groups(groups: Groups) -> Tensor:
    """The numbers of blocks [B, N] of groups with their scales and offsets [B, N / 32]."""
    codes, scale, offset = groups
    out: Tensor = scale[..., None] * codes.unflatten(1, (-1, 32)).float() + offset[..., None]
    return out.flatten(1)


def _q5_0(blocks: Tensor) -> Tensor:
    fifth = (blocks[:, 2:6, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten(1)
    return _half(blocks, 0) * ((_nibbles(blocks[:, 6:], 16).flatten(1) | fifth << 4).float() - 16)


def _q8_0(blocks: Tensor) -> Tensor:
    return _half(blocks, 0) * blocks[:, 2:].contiguous().view(torch.int8).float()


def _q6_k(blocks: Tensor) -> Tensor:
    """Sixteen groups of 16 with scales of eight bits; four bits of a number lie here and two there."""
    low = _nibbles(blocks[:, :128], 64).flatten(1)
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]
    high = (blocks[:, 128:192].unflatten(1, (2, 1, 32)) >> shifts & 3).flatten(1)
    scales = blocks[:, 192:208].contiguous().view(torch.int8).float() * _half(blocks, 208)
    codes = ((low | high << 4).float() - 32).unflatten(1, (16, 16))
    out: Tensor = scales[..., None] * codes
    return out.flatten(1)


BLOCKS_TOGETHER = 1 << 11
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_0": lambda blocks: _of_groups(_groups_q4_0(blocks)),
    "Q4_1": lambda blocks: _of_groups(_groups_q4_1(blocks)),
    "Q5_0": _q5_0,
    "Q8_0": _q8_0,
    "Q4_K": lambda blocks: _of_groups(_groups_q4_k(blocks)),
    "Q6_K": _q6_k,
}
# Those of four bits a number.
FOUR_BITS: dict[str, Callable[[Tensor], Groups]] = {"Q4_0": _groups_q4_0, "Q4_1": _groups_q4_1, "Q4_K": _groups_q4_k}
