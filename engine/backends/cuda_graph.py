"""One denoise step of a size class: its buffers, its launches, and on a GPU the CUDA graph of all of them.

Embedding, self-conditioning, the layers, the vocabulary for free rows, acceptance, fresh noise and the stop flag are
launches on the device over buffers that stay where they are, so that a step is one replay and nothing of it waits for
the host. On the CPU, in Triton's interpreter, the same launches run one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from midspan.engine.backends.triton import FusedNetwork, reading
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan
from midspan.kernels.settle import settle
from midspan.kernels.vocabulary import vocabulary

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as Pool

WARM_UPS = 2
Room = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""By layer: keys and values of canvases [B, G, C, D]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A size class: canvases, the leading rows of each that are read, its positions, free rows of all, steps."""

    batch: int
    rows: int
    width: int
    free: int
    steps: int


class Limits(NamedTuple):
    """What a step is compiled with, in nats: how much is accepted, and when a canvas counts as settled."""

    entropy_bound: float
    confidence_threshold: float


class StepGraph:
    """The step of one size class behind one prefix cache; what it decides lies in its tensors, [B, rows] each."""

    def __init__(self, network: FusedNetwork, cache: Cache, room: Room, size: Size, limits: Limits) -> None:
        model = network.model
        shape, device = (size.batch, size.rows), model.device
        self.size, self._network, self._model, self._cache = size, network, model, cache
        self._limits = limits
        self._scale = float(model.embed_scale.to(model.dtype))
        self.clean, self.current, self.draft = torch.zeros(3, *shape, dtype=torch.int32, device=device)
        self.free, self.accepted = torch.zeros(2, *shape, dtype=torch.bool, device=device)
        self.valid = torch.ones(size.batch, size.width, dtype=torch.bool, device=device)
        self.finished = torch.zeros(size.batch, dtype=torch.bool, device=device)
        self.entropy = torch.zeros(shape, device=device)
        self.soft = torch.zeros(*shape, model.config.hidden_size, dtype=model.dtype, device=device)
        self.order = torch.full((size.free,), -1, dtype=torch.int32, device=device)
        self.allowed = torch.full((model.config.vocab_size,), 3, dtype=torch.uint8, device=device)
        self.first = (torch.arange(size.batch * size.rows, device=device) % size.rows) == 0
        self.temperatures = torch.ones(size.steps, device=device)
        self.seed = torch.zeros(1, dtype=torch.int64, device=device)
        self.step, self.stop = torch.zeros(2, 1, dtype=torch.int32, device=device)
        own = [(keys[: size.batch], values[: size.batch]) for keys, values in room]
        self._at = reading(cache, own, causal=False, valid=self.valid)
        self._graph: torch.cuda.CUDAGraph | None = None

    def begin(self, canvas: Canvas, noise: torch.Tensor, plan: Plan, seed: int) -> None:
        """Take canvases [B, C] with their first noise [B, C], C at most the width; what lies behind is void."""
        columns, vocab = canvas.ids.shape[1], self._model.config.vocab_size
        self.free.zero_()
        self.free[:, :columns] = canvas.free
        self.clean.zero_()
        self.clean[:, :columns] = canvas.ids
        self.current.copy_(self.clean)
        self.current[:, :columns] = torch.where(canvas.free, noise, canvas.ids)
        self.valid.zero_()
        self.valid[:, :columns] = True if canvas.valid is None else canvas.valid
        anywhere = torch.ones(vocab, dtype=torch.bool, device=self.allowed.device)
        anywhere[list(canvas.banned)] = False
        first = anywhere if canvas.allowed_first is None else anywhere & canvas.allowed_first.to(anywhere.device)
        self.allowed.copy_(anywhere.to(torch.uint8) + 2 * first.to(torch.uint8))
        heat = [plan.temperature(plan.steps - number) for number in range(plan.steps)]
        self.temperatures[: plan.steps] = torch.tensor(heat)
        # No token: nothing equals the draft before the first one.
        self.draft.fill_(-1)
        self.finished.zero_()
        self.soft.zero_()
        self.step.zero_()
        self.seed.fill_(seed)
        self._settle_down()

    def take_over(self, other: StepGraph, rows: torch.Tensor) -> None:
        """Go on with canvases `rows` [B'] (ascending) of another class's step."""
        here = self.size.rows
        for name in ("clean", "current", "draft", "free", "soft"):
            getattr(self, name).copy_(getattr(other, name)[rows, :here])
        for name in ("valid", "finished"):
            getattr(self, name).copy_(getattr(other, name)[rows])
        for name in ("allowed", "temperatures", "seed", "step"):
            getattr(self, name).copy_(getattr(other, name))
        for mine, theirs in ((self._at.own_keys, other._at.own_keys), (self._at.own_values, other._at.own_values)):
            for to, source in zip(mine, theirs, strict=True):
                to.copy_(source[rows])
        self._settle_down()

    def _settle_down(self) -> None:
        """What follows from the canvases: the list of free rows, and how long the prefix is."""
        free, none = self.free.flatten(), self.free.numel()
        row = torch.arange(none, dtype=torch.int32, device=free.device)
        listed = torch.where(free, row, none).sort().values[: self.size.free]
        self.order.copy_(torch.where(listed == none, -1, listed))
        self._at.length.fill_(self._cache.length)

    def capture(self, pool: Pool | None) -> None:
        """Make the CUDA graph, in memory that other graphs of the pool use too: they never run at once."""
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                # Kernels are compiled and libraries started here, which a capture does not allow.
                self.step.zero_()
                self._launch()
        main.wait_stream(side)
        self.step.zero_()
        graph = torch.cuda.CUDAGraph()
        # What other threads do on the device, which the strictest mode forbids, is no part of this capture.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._launch()
        self._graph = graph

    def run(self) -> None:
        """One step of the canvases; returns before the device has done it."""
        if self._graph is None:
            self._launch()
        else:
            self._graph.replay()

    def _launch(self) -> None:
        model, shape = self._model, self.free.shape
        hidden = self._network.read_canvas(self.current, self.soft, self._at)
        read = vocabulary(
            hidden.flatten(0, 1),
            *(self.order, model.embed_tokens.weight, self.temperatures, self.seed, self.step, self.allowed, self.first),
            model.config.softcap,
            self._scale,
        )
        assert read.soft is not None
        self.entropy.copy_(read.entropy.view(shape))
        accepted = settle(
            *(self.entropy, read.sample.view(shape), read.argmax.view(shape), self.clean, self.free),
            *(self.current, self.draft, self.finished, self.seed, self.step, self.stop),
            self._limits.entropy_bound,
            self._limits.confidence_threshold,
            model.config.vocab_size,
        )
        self.accepted.copy_(accepted)
        # A finished canvas keeps what it was last conditioned on, and so says the same again.
        self.soft.copy_(torch.where(self.finished[:, None, None], self.soft, read.soft.view_as(self.soft)))
