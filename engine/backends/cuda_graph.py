"""One denoise step of a size class: its buffers, its launches and, on a GPU, their CUDA graph.

Embedding, self-conditioning, the layers, the vocabulary for free rows, acceptance, fresh noise and the stop flag are
launches over buffers that never move, so that a step is one replay and never waits for the host. On the CPU, in
Triton's interpreter, the same launches run one by one.
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
    """A size class: canvases, leading rows computed of each, positions of each, free rows of all, steps."""

    batch: int
    rows: int
    width: int
    free: int
    steps: int


class Limits(NamedTuple):
    """Constants of a step, in nats: the entropy bound, and the threshold below which a canvas counts as settled."""

    entropy_bound: float
    confidence_threshold: float


class StepGraph:
    """The step of one size class behind one prefix cache; its decisions are in its tensors, [B, rows] each."""

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
        """Start canvases [B, C] with their first noise [B, C]; positions from C up to the width are invalid."""
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
        # -1 is no token, so that no draft equals the one before the first.
        self.draft.fill_(-1)
        self.finished.zero_()
        self.soft.zero_()
        self.step.zero_()
        self.seed.fill_(seed)
        self._settle_down()

    def take_over(self, other: StepGraph, rows: torch.Tensor) -> None:
        """Continue canvases `rows` [B'] (ascending) of another class's step."""
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
        """Set what depends on the canvases: the list of free rows, and the prefix length."""
        free, none = self.free.flatten(), self.free.numel()
        row = torch.arange(none, dtype=torch.int32, device=free.device)
        listed = torch.where(free, row, none).sort().values[: self.size.free]
        self.order.copy_(torch.where(listed == none, -1, listed))
        self._at.length.fill_(self._cache.length)

    def capture(self, pool: Pool | None) -> None:
        """Capture the CUDA graph, in memory shared with the pool's other graphs, which never run at the same time."""
        side, main = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                # Compiling kernels and starting libraries is not allowed during a capture.
                self.step.zero_()
                self._launch()
        main.wait_stream(side)
        self.step.zero_()
        graph = torch.cuda.CUDAGraph()
        # The strictest mode would forbid other threads to use the device meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._launch()
        self._graph = graph

    def run(self) -> None:
        """Run one step; returns before the device has finished it."""
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
        # A finished canvas keeps its soft embeddings, and so its draft.
        self.soft.copy_(torch.where(self.finished[:, None, None], self.soft, read.soft.view_as(self.soft)))
