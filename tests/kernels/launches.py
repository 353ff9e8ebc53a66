"""Calls of every launcher on meta tensors, at the sizes of the released 26B and of a small float32 network."""

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
ROWS, CACHED, CHUNK = 256, 2048, 1024
EPS = 1e-6
# Bytes of shared memory that one block may have, by compute capability: CUDA C++ Programming Guide, technical
# specifications.
SHARED = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}


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


def attend(
    groups: int,
    size: int,
    window: int | None,
    requests: int = 1,
    rows: int = ROWS,
    dtype: torch.dtype = torch.bfloat16,
    padded: bool = True,
) -> None:
    q, k = meta(requests, HEADS, rows, size, dtype=dtype), meta(requests, groups, rows, size, dtype=dtype)
    keys, kinds = meta(1, groups, CACHED, size, dtype=dtype), meta(requests, dtype=torch.bool)
    valid = meta(requests, rows, dtype=torch.bool) if padded else None
    attention(q, keys, keys, k, k, int32(requests), int32(requests), kinds, valid, window)


def gate() -> None:
    geglu(meta(ROWS, 2 * 2112))


def route(rows: int) -> None:
    router(meta(rows, WIDTH), meta(WIDTH), meta(EXPERTS, WIDTH), meta(EXPERTS), TOP_K, EPS)


def mixture(rows: int) -> None:
    gate_up, down = meta(EXPERTS, 2 * EXPERT_SIZE, WIDTH), meta(EXPERTS, WIDTH, EXPERT_SIZE)
    experts(meta(rows, WIDTH), float32(rows, TOP_K), int32(rows, TOP_K), gate_up, down)


def small_mixture(rows: int) -> None:
    """The embedded checkpoint's single expert, in float32."""
    routed = float32(rows, 256), float32(rows, 1), int32(rows, 1)
    experts(*routed, float32(1, 2 * 128, 256), float32(1, 256, 128))


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


def small_vocabulary(rows: int) -> None:
    seed, heat = meta(1, dtype=torch.int64), float32(8)
    vocabulary(float32(rows, 256), int32(rows), float32(8192, 256), heat, seed, int32(1), None, None, 30.0, 16.0)


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
    "attention, sliding, 32 rows": lambda: attend(8, 256, 1024, rows=32),
    "attention, sliding, prefill": lambda: attend(8, 256, 1024, rows=CHUNK, padded=False),
    "attention, full, split": lambda: attend(2, 512, None),
    "attention, full, eight canvases": lambda: attend(2, 512, None, requests=8),
    "attention, full, prefill": lambda: attend(2, 512, None, rows=CHUNK, padded=False),
    "attention, small, float32": lambda: attend(4, 64, 1024, requests=4, rows=64, dtype=torch.float32),
    "dense MLP": gate,
    "router": lambda: route(ROWS),
    "router, 32 rows": lambda: route(32),
    "experts of 32 rows": lambda: mixture(32),
    "experts of 256 rows": lambda: mixture(ROWS),
    "experts of 1024 rows": lambda: mixture(CHUNK),
    "experts, small, float32": lambda: small_mixture(64),
    "vocabulary of 256 rows": lambda: read_vocabulary(ROWS, soft=True),
    "vocabulary of 64 rows": lambda: read_vocabulary(64, soft=True),
    "vocabulary of 32 rows": lambda: read_vocabulary(32, soft=True),
    "vocabulary of 16 rows": lambda: read_vocabulary(16, soft=True),
    "vocabulary of 16 rows, last step": lambda: read_vocabulary(16, soft=False),
    "vocabulary, small, float32": lambda: small_vocabulary(64),
    "canvas of 256": lambda: decide(256),
    "canvas of 64": lambda: decide(64),
    "FP8 projections": lambda: product_fp8(ROWS, 8192, WIDTH),
    "FP8 product out of heads, few rows": lambda: product_fp8(32, WIDTH, 4096),
    "FP8 product out of heads, 16 rows": lambda: product_fp8(16, WIDTH, 4096),
    **{
        f"{code} experts of {rows} rows": lambda rows=rows, code=kind: mixture_4bit(rows, code)  # type: ignore[misc]
        for code, kind in (("int4", "int4"), ("NVFP4", "e2m1"))
        for rows in (32, ROWS, CHUNK)
    },
    "FP8 experts of 32 rows": lambda: mixture_fp8(32),
    "FP8 experts of 256 rows": lambda: mixture_fp8(ROWS),
    "FP8 experts of 1024 rows": lambda: mixture_fp8(CHUNK),
}
NEEDS_FP8 = {name for name in ALL if "FP8" in name}
# Launches whose tiles depend on the shared memory of a block.
BY_SHARED_MEMORY = {name for name in ALL if name.startswith(("attention", "experts", "vocabulary", "int4", "NVFP4"))}


def of_target(capability: int) -> dict[str, Callable[[], None]]:
    """Launches to compile for a compute capability; for 8.6 only those whose tiles differ from 8.0's."""
    names = [name for name in ALL if capability >= 89 or name not in NEEDS_FP8]
    return {name: ALL[name] for name in names if capability != 86 or name in BY_SHARED_MEMORY}
