"""Every launcher at the sizes of the released 26B, on tensors without memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from midspan.kernels.attention import attention
from midspan.kernels.experts import experts, experts_fp8
from midspan.kernels.experts_4bit import FourBit, experts_4bit
from midspan.kernels.geglu import geglu
from midspan.kernels.linear import linear_fp8
from midspan.kernels.qkv import qkv
from midspan.kernels.rms_norm import rms_norm_join, rms_norm_residual
from midspan.kernels.router import router
from midspan.kernels.settle import settle
from midspan.kernels.vocabulary import vocabulary

WIDTH, HEADS, EXPERTS, TOP_K, EXPERT_SIZE, VOCABULARY = 2816, 16, 128, 8, 704, 262_144
ROWS, CACHED = 256, 2048
EPS = 1e-6


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def int32(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.int32)


def float32(*shape: int) -> torch.Tensor:
    return meta(*shape, dtype=torch.float32)


def norms() -> None:
    x, weight = meta(ROWS, WIDTH), meta(WIDTH)
    rms_norm_residual(x, weight, x, None, (weight, weight, weight), EPS)


def layer_end() -> None:
    x, weight = meta(ROWS, WIDTH), meta(WIDTH)
    rms_norm_join((x, x), (weight, weight), weight, x, meta(1), (weight,), EPS)


def projections(groups: int, size: int) -> None:
    q, k, tables = meta(1, ROWS, HEADS, size), meta(1, ROWS, groups, size), meta(1, ROWS, size)
    keys, weight = meta(1, groups, CACHED, size), meta(size)
    qkv(q, k, k, weight, weight, tables, tables, keys, keys, int32(1), int32(1), EPS)


def attend(groups: int, size: int, window: int | None, requests: int = 1, dtype: torch.dtype = torch.bfloat16) -> None:
    q, k = meta(requests, HEADS, ROWS, size, dtype=dtype), meta(requests, groups, ROWS, size, dtype=dtype)
    keys, kinds = meta(1, groups, CACHED, size, dtype=dtype), meta(requests, dtype=torch.bool)
    valid = meta(requests, ROWS, dtype=torch.bool)
    attention(q, keys, keys, k, k, int32(requests), int32(requests), kinds, valid, window)


def gate() -> None:
    geglu(meta(ROWS, 2 * 2112))


def route() -> None:
    router(meta(ROWS, WIDTH), meta(WIDTH), meta(EXPERTS, WIDTH), meta(EXPERTS), TOP_K, EPS)


def mixture(rows: int) -> None:
    gate_up, down = meta(EXPERTS, 2 * EXPERT_SIZE, WIDTH), meta(EXPERTS, WIDTH, EXPERT_SIZE)
    experts(meta(rows, WIDTH), float32(rows, TOP_K), int32(rows, TOP_K), gate_up, down)


def mixture_fp8(rows: int) -> None:
    gate_up = meta(EXPERTS, 2 * EXPERT_SIZE, WIDTH, dtype=torch.float8_e4m3fn)
    down = meta(EXPERTS, WIDTH, EXPERT_SIZE, dtype=torch.float8_e4m3fn)
    scales = float32(EXPERTS, 2 * EXPERT_SIZE), float32(EXPERTS, WIDTH)
    experts_fp8(meta(rows, WIDTH), float32(rows, TOP_K), int32(rows, TOP_K), gate_up, scales[0], down, scales[1])


def product_fp8(rows: int, columns: int, width: int) -> None:
    linear_fp8(meta(rows, width), meta(columns, width, dtype=torch.float8_e4m3fn), float32(columns))


def mixture_4bit(rows: int, code: str) -> None:
    group, kind = (32, torch.bfloat16) if code == "int4" else (16, torch.float8_e4m3fn)

    def stack(out: int, width: int) -> FourBit:
        packed = meta(EXPERTS, out, width // 2, dtype=torch.uint8)
        return FourBit(packed, meta(EXPERTS, out, width // group, dtype=kind), float32(EXPERTS, out), code)

    given = meta(rows, WIDTH), float32(rows, TOP_K), int32(rows, TOP_K)
    experts_4bit(*given, stack(2 * EXPERT_SIZE, WIDTH), stack(WIDTH, EXPERT_SIZE))


def read_vocabulary(rows: int, soft: bool) -> None:
    hidden, embedding = meta(ROWS, WIDTH), meta(VOCABULARY, WIDTH)
    allowed, first = meta(VOCABULARY, dtype=torch.uint8), meta(ROWS, dtype=torch.bool)
    seed = meta(1, dtype=torch.int64)
    scale = 53.0 if soft else None
    vocabulary(hidden, int32(rows), embedding, float32(48), seed, int32(1), allowed, first, 30.0, scale)


def decide(canvas: int) -> None:
    ids, entropy, free = int32(8, canvas), float32(8, canvas), meta(8, canvas, dtype=torch.bool)
    finished, seed, step = meta(8, dtype=torch.bool), meta(1, dtype=torch.int64), int32(1)
    settle(entropy, ids, ids, ids, free, ids, ids, finished, seed, step, step, 0.1, 0.005, VOCABULARY)


ALL: dict[str, Callable[[], None]] = {
    "norms": norms,
    "layer end": layer_end,
    "projections, sliding": lambda: projections(8, 256),
    "projections, full": lambda: projections(2, 512),
    "attention, sliding, split": lambda: attend(8, 256, 1024),
    "attention, full, split": lambda: attend(2, 512, None),
    "attention, full, eight canvases": lambda: attend(2, 512, None, requests=8),
    "dense MLP": gate,
    "router": route,
    "experts of 256 rows": lambda: mixture(ROWS),
    "experts of 2048 rows": lambda: mixture(2048),
    "vocabulary of 256 rows": lambda: read_vocabulary(ROWS, soft=True),
    "vocabulary of 16 rows, last step": lambda: read_vocabulary(16, soft=False),
    "canvas of 256": lambda: decide(256),
    "canvas of 64": lambda: decide(64),
    "FP8 projections": lambda: product_fp8(ROWS, 8192, WIDTH),
    "FP8 product out of heads, few rows": lambda: product_fp8(32, WIDTH, 4096),
    "int4 experts of 256 rows": lambda: mixture_4bit(ROWS, "int4"),
    "int4 experts of 2048 rows": lambda: mixture_4bit(2048, "int4"),
    "NVFP4 experts of 256 rows": lambda: mixture_4bit(ROWS, "e2m1"),
    "FP8 experts of 256 rows": lambda: mixture_fp8(ROWS),
    "FP8 experts of 2048 rows": lambda: mixture_fp8(2048),
}
NEEDS_FP8 = {name for name in ALL if "FP8" in name}
