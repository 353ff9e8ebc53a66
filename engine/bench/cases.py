"""Every kernel at one network's sizes: inputs on the device, the reference, and the least memory traffic.

`bytes` counts each input and output once where the op can hold it that long, `flops` the products; together with a
GPU's rates they bound the time from below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from midspan.kernels.attention import attention, cached_attention_reference
from midspan.kernels.experts import experts, experts_fp8, experts_fp8_reference, experts_reference
from midspan.kernels.experts_4bit import FourBit, experts_4bit, experts_4bit_reference
from midspan.kernels.four_bit import quantize_int4
from midspan.kernels.geglu import geglu, geglu_reference
from midspan.kernels.linear import linear_fp8, linear_fp8_reference
from midspan.kernels.qkv import qkv, qkv_reference
from midspan.kernels.quantize import quantize_rows_reference
from midspan.kernels.rms_norm import (
    rms_norm_join,
    rms_norm_join_reference,
    rms_norm_residual,
    rms_norm_residual_reference,
)
from midspan.kernels.router import router, router_reference
from midspan.kernels.settle import settle, settle_reference
from midspan.kernels.vocabulary import vocabulary, vocabulary_reference

EPS = 1e-6
Outputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """A network's sizes, how many rows one reading has and how many tokens stand before them."""

    width: int
    heads: int
    sliding: tuple[int, int]  # groups and head size
    full: tuple[int, int]
    window: int
    dense: int
    experts: int
    top_k: int
    expert: int
    vocab: int
    rows: int
    cached: int
    dtype: torch.dtype


RELEASE = Sizes(
    width=2816,
    heads=16,
    sliding=(8, 256),
    full=(2, 512),
    window=1024,
    dense=2112,
    experts=128,
    top_k=8,
    expert=704,
    vocab=262_144,
    rows=256,
    cached=2048,
    dtype=torch.bfloat16,
)
TINY = Sizes(
    width=32,
    heads=4,
    sliding=(2, 16),
    full=(1, 32),
    window=8,
    dense=48,
    experts=4,
    top_k=2,
    expert=32,
    vocab=50,
    rows=4,
    cached=20,
    dtype=torch.float32,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One op on one set of inputs; `tolerance` is relative to the largest value of each output."""

    op: str
    shape: str
    run: Callable[[], Outputs]
    reference: Callable[[], Outputs]
    bytes: int
    flops: int = 0
    rate: str = "bf16"
    tolerance: float = 2.0**-6


class Inputs:
    """Random tensors of one size on one device."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        self.sizes, self._device = sizes, device
        self._generator = torch.Generator(device=device).manual_seed(0)

    def __call__(self, *shape: int, dtype: torch.dtype | None = None, scale: float = 1.0) -> torch.Tensor:
        """Normal values."""
        values = torch.randn(shape, generator=self._generator, device=self._device)
        return (values * scale).to(dtype or self.sizes.dtype)

    def int32(self, *values: int) -> torch.Tensor:
        """The values themselves."""
        return torch.tensor(values, dtype=torch.int32, device=self._device)

    def below(self, limit: int, *shape: int) -> torch.Tensor:
        """Uniform integers."""
        made = torch.randint(limit, shape, generator=self._generator, device=self._device)
        return made.int()


def cases(sizes: Sizes, device: torch.device, *, fp8: bool) -> Iterator[Case]:
    """All ops, each made when the one before it is done with; FP8 where the device knows it."""
    make = Inputs(sizes, device)
    yield from _norms(make)
    for (groups, head), window in ((sizes.sliding, sizes.window), (sizes.full, None)):
        yield _projections(make, groups, head)
        yield _attention(make, groups, head, window)
    yield _gating(make)
    yield _router(make)
    yield _experts(make)
    yield _experts_4bit(make)
    if fp8:
        yield _experts_fp8(make)
        yield _product_fp8(make)
    yield _vocabulary(make)
    yield _settle(make)


def size_of(*tensors: torch.Tensor) -> int:
    """Bytes of all of them."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _norms(make: Inputs) -> Iterator[Case]:
    size = make.sizes
    x, y, residual = (make(size.rows, size.width) for _ in range(3))
    first, second = make(size.width), make(size.width)
    shape, one = f"{size.rows}x{size.width}", size_of(x)
    yield Case(
        op="rms_norm_residual",
        shape=shape,
        run=lambda: rms_norm_residual(x, first, residual, None, (first, second), EPS),
        reference=lambda: rms_norm_residual_reference(x, first, residual, None, (first, second), EPS),
        bytes=5 * one,
    )
    yield Case(
        op="rms_norm_join",
        shape=shape,
        run=lambda: rms_norm_join((x, y), (first, second), first, residual, None, (second,), EPS),
        reference=lambda: rms_norm_join_reference((x, y), (first, second), first, residual, None, (second,), EPS),
        bytes=5 * one,
    )


def _projections(make: Inputs, groups: int, head: int) -> Case:
    size = make.sizes
    q, k, v = (make(1, size.rows, heads, head) for heads in (size.heads, groups, groups))
    weight, tables = make(head), make(1, size.rows, head)
    none = make.int32(0)

    def run(op: Callable[..., torch.Tensor]) -> Outputs:
        keys, values = torch.zeros(2, 1, groups, size.rows, head, dtype=q.dtype, device=q.device)
        return op(q, k, v, weight, weight, tables, tables, keys, values, none, none, EPS), keys, values

    return Case(
        op="qkv",
        shape=f"{size.rows}x({size.heads}+2*{groups})x{head}",
        run=lambda: run(qkv),
        reference=lambda: run(qkv_reference),
        bytes=2 * size_of(q, k, v),
    )


def _attention(make: Inputs, groups: int, head: int, window: int | None) -> Case:
    size, spread = make.sizes, head**-0.25
    q = make(1, size.heads, size.rows, head, scale=spread)
    k, v = make(1, groups, size.rows, head, scale=spread), make(1, groups, size.rows, head)
    keys, values = make(1, groups, size.cached, head, scale=spread), make(1, groups, size.cached, head)
    kinds = torch.zeros(1, dtype=torch.bool, device=q.device)
    given = (q, keys, values, k, v, make.int32(0), make.int32(size.cached), kinds, None, window)
    seen = size.cached if window is None else min(window - 1, size.cached)
    return Case(
        op="attention",
        shape=f"{size.rows} rows, {size.heads}/{groups} heads of {head}, {seen}+{size.rows} keys",
        run=lambda: (attention(*given),),
        reference=lambda: (cached_attention_reference(*given),),
        bytes=2 * size_of(q, k) + 2 * groups * seen * head * q.element_size(),
        flops=4 * size.rows * size.heads * head * (seen + size.rows),
    )


def _gating(make: Inputs) -> Case:
    size = make.sizes
    x = make(size.rows, 2 * size.dense)
    return Case(
        op="geglu",
        shape=f"{size.rows}x2*{size.dense}",
        run=lambda: (geglu(x),),
        reference=lambda: (geglu_reference(*x.chunk(2, dim=-1)),),
        bytes=size_of(x) * 3 // 2,
    )


def _router(make: Inputs) -> Case:
    size = make.sizes
    x, scale, proj = make(size.rows, size.width), make(size.width), make(size.experts, size.width)
    each = torch.ones_like(proj[:, 0]).contiguous()
    # Which of two experts as good as equal is chosen is free, what they weigh is not.
    return Case(
        op="router",
        shape=f"{size.rows}x{size.width}, {size.top_k} of {size.experts}",
        run=lambda: router(x, scale, proj, each, size.top_k, EPS)[:1],
        reference=lambda: router_reference(x, scale, proj, each, size.top_k, EPS)[:1],
        bytes=size_of(x, proj),
        flops=2 * size.rows * proj.numel(),
        tolerance=2.0**-4,
    )


def _routed(make: Inputs) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, str, int]:
    """Rows, their weights and experts (each another), what to call the shape, and the products' operations."""
    size = make.sizes
    likely = make(size.rows, size.experts, dtype=torch.float32)
    weights, index = likely.softmax(dim=-1).topk(size.top_k)
    shape = f"{size.rows} rows, {size.top_k} of {size.experts} experts, {size.width}x{size.expert}"
    flops = 6 * size.rows * size.top_k * size.width * size.expert
    return make(size.rows, size.width), weights.contiguous(), index.int(), shape, flops


def _stacks(make: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """gate_up [E, 2f, d] and down [E, d, f]."""
    size = make.sizes
    gate_up = make(size.experts, 2 * size.expert, size.width, scale=size.width**-0.5)
    return gate_up, make(size.experts, size.width, size.expert, scale=size.expert**-0.5)


def _experts(make: Inputs) -> Case:
    x, weights, index, shape, flops = _routed(make)
    gate_up, down = _stacks(make)
    return Case(
        op="experts",
        shape=shape,
        run=lambda: (experts(x, weights, index, gate_up, down),),
        reference=lambda: (experts_reference(x, weights, index, gate_up, down),),
        bytes=_touched(index, gate_up, down) + 2 * size_of(x),
        flops=flops,
        tolerance=2.0**-5,
    )


def _experts_fp8(make: Inputs) -> Case:
    x, weights, index, shape, flops = _routed(make)
    (gate_up, up_scale), (down, down_scale) = (quantize_rows_reference(stack) for stack in _stacks(make))
    given = (x, weights, index, gate_up, up_scale, down, down_scale)
    return Case(
        op="experts_fp8",
        shape=shape,
        run=lambda: (experts_fp8(*given),),
        reference=lambda: (experts_fp8_reference(*given),),
        bytes=_touched(index, gate_up, down) + 2 * size_of(x),
        flops=flops,
        rate="fp8",
        # A hidden value that rounds the other way is off by 2^-3 of its size, one of hundreds in a sum.
        tolerance=2.0**-4,
    )


def _experts_4bit(make: Inputs) -> Case:
    x, weights, index, shape, flops = _routed(make)
    packed = []
    for stack in _stacks(make):
        parts = [quantize_int4(one) for one in stack]
        codes, scale = (torch.stack(side) for side in zip(*parts, strict=True))
        packed.append(FourBit(codes, scale, torch.ones(stack.shape[:2], device=stack.device), "int4"))
    gate_up, down = packed
    return Case(
        op="experts_4bit",
        shape=shape,
        run=lambda: (experts_4bit(x, weights, index, gate_up, down),),
        reference=lambda: (experts_4bit_reference(x, weights, index, gate_up, down),),
        bytes=sum(_touched(index, one.packed, one.scale) for one in packed) + 2 * size_of(x),
        flops=flops,
        tolerance=2.0**-5,
    )


def _touched(index: torch.Tensor, *stacks: torch.Tensor) -> int:
    """Bytes of the experts that any row goes to."""
    return len(index.unique()) * size_of(*(stack[0] for stack in stacks))


def _product_fp8(make: Inputs) -> Case:
    size, columns = make.sizes, (make.sizes.heads + 2 * make.sizes.sliding[0]) * make.sizes.sliding[1]
    weight, scale = quantize_rows_reference(make(columns, size.width))
    x = make(size.rows, size.width)
    return Case(
        op="linear_fp8",
        shape=f"{size.rows}x{size.width}x{columns}",
        run=lambda: (linear_fp8(x, weight, scale),),
        reference=lambda: (linear_fp8_reference(x, weight, scale),),
        bytes=size_of(x, weight) + size.rows * columns * x.element_size(),
        flops=2 * size.rows * size.width * columns,
        rate="fp8",
    )


def _vocabulary(make: Inputs) -> Case:
    size = make.sizes
    hidden, embedding = make(size.rows, size.width), make(size.vocab, size.width, scale=2 * size.width**-0.5)
    listed, heat = make.int32(*range(size.rows)), torch.full((4,), 0.6, device=hidden.device)
    seed, step = torch.zeros(1, dtype=torch.int64, device=hidden.device), make.int32(1)
    few = listed[:32].contiguous()

    def read(op: Callable[..., object], rows: torch.Tensor) -> Outputs:
        """Entropy and soft embeddings of the rows that are compared; all rows' logits would take gigabytes."""
        got = op(hidden, rows, embedding, heat, seed, step, None, None, 30.0, 1.0)
        return got.entropy[: len(few)], got.soft[: len(few)]  # type: ignore[attr-defined]

    return Case(
        op="vocabulary",
        shape=f"{size.rows} rows of {size.width}, {size.vocab} tokens, with soft embeddings",
        run=lambda: read(vocabulary, listed),
        reference=lambda: read(vocabulary_reference, few),
        # Twice: the soft embeddings' weights are known only when all logits have been seen.
        bytes=2 * size_of(embedding),
        flops=4 * size.rows * embedding.numel(),
        tolerance=2.0**-5,
    )


def _settle(make: Inputs) -> Case:
    size = make.sizes
    ids = [make.below(size.vocab, 1, size.rows) for _ in range(3)]
    entropy, free = make(1, size.rows, dtype=torch.float32).abs(), make.below(2, 1, size.rows) > 0
    seed = torch.zeros(1, dtype=torch.int64, device=entropy.device)

    def run(op: Callable[..., torch.Tensor]) -> Outputs:
        current, draft, finished = ids[0].clone(), ids[1].clone(), torch.zeros_like(free[:, 0])
        step, stop = make.int32(0), make.int32(0)
        kept = op(entropy, *ids, free, current, draft, finished, seed, step, stop, 0.1, 0.005, size.vocab)
        return kept, current, draft, finished

    return Case(
        op="settle",
        shape=f"1x{size.rows}",
        run=lambda: run(settle),
        reference=lambda: run(settle_reference),
        bytes=size_of(entropy, *ids) * 2,
        tolerance=0.0,
    )
