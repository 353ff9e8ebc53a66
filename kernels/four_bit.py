"""Weights in 4 bits: two numbers per byte, one scale per group of numbers, and one per row (an output channel).

    w[n, k] = code(nibble[n, k]) * scale[n, k / group] * channel[n]

The low half of a byte is the even k. Code `int4` is nibble - 8, in groups that midspan makes. Code `e2m1` is NVFP4:
sign, two bits of exponent and one of mantissa, in groups of 16 with FP8 scales (NVIDIA ModelOpt's `weight`,
`weight_scale`, `weight_scale_2`).
"""

from __future__ import annotations

import math

import torch

from midspan.kernels.launch import tl, triton

GROUP = 32  # numbers that share a scale in int4, where the row's width allows it
CODES = ("int4", "e2m1")
# Factors on the scale that makes a group's largest entry 7 steps. With a negative scale that entry may be 8 steps.
SHRUNK = tuple(sign * part / 32 for part in range(22, 34) for sign in (1, -1))
# The values of the sixteen nibbles.
VALUES = {
    "int4": tuple(float(nibble - 8) for nibble in range(16)),
    "e2m1": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0),
}


@triton.jit
def decoded(nibble: tl.tensor, E2M1: tl.constexpr) -> tl.tensor:
    """The value of a nibble (int32), in float32."""
    if E2M1:
        exponent, mantissa = (nibble >> 1) & 3, nibble & 1
        normal = ((2 + mantissa) << exponent).to(tl.float32) * 0.25
        magnitude = tl.where(exponent == 0, mantissa.to(tl.float32) * 0.5, normal)
        return tl.where(nibble >= 8, -magnitude, magnitude)
    return (nibble - 8).to(tl.float32)


@triton.jit
def from_e4m3(bits: tl.tensor) -> tl.tensor:
    """A positive e4m3 number from its bits, in float32; works on GPUs without FP8 too."""
    exponent, mantissa = (bits.to(tl.int32) >> 3) & 15, bits.to(tl.int32) & 7
    # The exponent's bias goes from 7 to 127, the mantissa from 3 bits to 23; a subnormal counts steps of 2^-9.
    normal = (((exponent + 120) << 23) | (mantissa << 20)).to(tl.float32, bitcast=True)
    return tl.where(exponent == 0, mantissa.to(tl.float32) * 0.001953125, normal)


def group_of(width: int) -> int:
    """Numbers per scale in int4 rows of `width`: the greatest common divisor with GROUP. Raises ValueError if odd."""
    if width % 2:
        raise ValueError(f"rows of {width} numbers do not pack into bytes")
    return math.gcd(width, GROUP)


def quantize_int4(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [..., d] -> packed uint8 [..., d / 2] and scales [..., d / group] in bfloat16.

    A group's largest entry becomes 7 steps at most, so the error of an entry is at most half a step and the rounding of
    the scale.
    """
    groups = x.float().unflatten(-1, (-1, group_of(x.shape[-1])))
    # The scale is rounded to bfloat16 before the codes are computed, so that they fit the scale that is stored.
    scale = (groups.abs().amax(dim=-1) / 7).clamp(min=1e-12).to(torch.bfloat16)
    return _packed(groups, scale), scale


def quantize_int4_closest(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As quantize_int4, with the scale of each group, of either sign, that has the least squared error.

    For checkpoints that are written once: it takes len(SHRUNK) times as long.
    """
    groups = x.float().unflatten(-1, (-1, group_of(x.shape[-1])))
    largest = groups.abs().amax(dim=-1).clamp(min=1e-12) / 7
    best, least = largest.to(torch.bfloat16), torch.full_like(largest, torch.inf)
    for share in SHRUNK:
        scale = (largest * share).to(torch.bfloat16)
        step = scale.float()[..., None]
        error = ((groups / step).round().clamp(-8, 7) * step - groups).square().sum(dim=-1)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return _packed(groups, best), best


def _packed(groups: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    nibbles = (groups / scale.float()[..., None]).round().clamp(-8, 7).add(8).to(torch.uint8).flatten(-2)
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4


def dequantize_reference(packed: torch.Tensor, scale: torch.Tensor, channel: torch.Tensor, code: str) -> torch.Tensor:
    """packed uint8 [..., n, d / 2], scale [..., n, d / group], channel [..., n] -> float32 [..., n, d]."""
    values = torch.tensor(VALUES[code], device=packed.device)
    nibbles = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
    groups = values[nibbles.long()].unflatten(-1, (scale.shape[-1], -1))
    rows: torch.Tensor = (groups * scale.float()[..., None]).flatten(-2)
    return rows * channel[..., None]
