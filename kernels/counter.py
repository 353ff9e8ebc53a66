"""Random numbers from a seed and a counter: Philox4x32-10 (Salmon et al. 2011), the same in a kernel and in torch.

A number depends on (seed, column, row, step, stream) alone: not on tiles, devices or earlier numbers. A seeded fill is
therefore the same on any GPU. Streams: DRAW samples tokens, NOISE renoises.
"""

from __future__ import annotations

import torch

from midspan.kernels.launch import tl, triton

DRAW, NOISE = 0, 1
ROUNDS = 10
MASK = 0xFFFFFFFF


@triton.jit
def gumbel(bits: tl.tensor) -> tl.tensor:
    """32 random bits -> a Gumbel variable; 23 of them make a uniform number that is never 0 nor 1."""
    return -tl.log(-tl.log(((bits >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07))


def gumbel_reference(bits: torch.Tensor) -> torch.Tensor:
    """Reference of gumbel, from 32-bit values in int64."""
    return -torch.log(-torch.log(((bits >> 9).float() + 0.5) * 2.0**-23))


def below_reference(bits: torch.Tensor, limit: int) -> torch.Tensor:
    """32 random bits in int64 -> uniform integers below limit: the upper half of the product, as tl.umulhi."""
    return (bits * limit) >> 32


def philox_reference(
    seed: int, c0: torch.Tensor, c1: torch.Tensor, c2: torch.Tensor, c3: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Reference of tl.philox: four blocks of 32 random bits (in int64) for broadcastable counters."""
    k0, k1 = seed & MASK, (seed >> 32) & MASK
    c0, c1, c2, c3 = torch.broadcast_tensors(*(c.long() for c in (c0, c1, c2, c3)))
    for _ in range(ROUNDS):
        high0, low0 = _product(0xD2511F53, c0)
        high1, low1 = _product(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


def _product(a: int, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper and lower 32 bits of a * b, computed by halves because int64 holds 63 bits."""
    low, high = (a & 0xFFFF) * b, (a >> 16) * b
    total = low + ((high & 0xFFFF) << 16)
    return (high >> 16) + (total >> 32), total & MASK
