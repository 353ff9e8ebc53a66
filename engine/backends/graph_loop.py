"""The loop of denoise.py over captured steps: decided on the device, the host reads along one step late.

Same rules and same Steps as `denoise`. Random numbers come from counters (kernels/counter.py), so that a seed gives the
same fill on every GPU. Sizes come in classes, each with a graph of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from midspan.engine.api import DeviceError
from midspan.engine.backends.cuda_graph import Limits, Room, Size, StepGraph
from midspan.engine.backends.triton import FusedNetwork
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Step
from midspan.kernels.launch import cdiv, power_of_two

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as Pool

log = logging.getLogger(__name__)

# Granularity of size classes: positions of a canvas, rows computed of it, free rows of all canvases.
WIDTHS, ROWS, FREE_ROWS = 16, 8, 16
MAX_GRAPHS = 16


class CapturedLoop:
    """Denoises canvases behind a prefix; keeps a graph per size class, and the most canvases that fit at once."""

    def __init__(self, network: FusedNetwork) -> None:
        self._network, self._model = network, network.model
        self.graphs: dict[tuple[Size, Limits], StepGraph] = {}
        self._rooms: dict[tuple[int, int], Room] = {}
        self._prefix: torch.Tensor | None = None
        self._pool: Pool | None = None
        self.most: int | None = None

    @torch.inference_mode()
    def __call__(self, cache: Cache, canvas: Canvas, plan: Plan, rng: Rng) -> Iterator[Step]:
        """See denoise.denoise, and bound.BoundCanvases of `later_rows`. Raises DeviceError where no canvas fits."""
        if not bool(canvas.free.any()):
            return
        graph, later, chosen = self._graphs_for(cache, canvas, plan)
        some = canvas.select(chosen.to(canvas.ids.device))
        noise = rng.noise((some.ids.shape[0], some.ids.shape[1]), self._model.config.vocab_size)
        graph.begin(some, noise, plan, rng.counter_seed())
        rows, waiting, ids = chosen.to(self._model.device), None, canvas.ids.cpu()
        for number in range(1, plan.steps + 1):
            graph.run()
            report = Report(graph, rows, number)
            if number == 1 and later is not None:
                best = graph.entropy.sum(dim=-1).topk(later.size.batch, largest=False).indices.sort().values
                later.take_over(graph, best)
                graph, rows = later, rows[best]
            if waiting is not None:
                yield (step := waiting.read(ids))
                if bool(step.finished.all()):
                    return
            waiting = report
        if waiting is not None:
            yield waiting.read(ids)

    def _graphs_for(self, cache: Cache, canvas: Canvas, plan: Plan) -> tuple[StepGraph, StepGraph | None, torch.Tensor]:
        """The graphs of the first step and of later steps (None: the same), and the canvases that fit [B]."""
        batch = len(canvas.free)
        while True:
            chosen = torch.arange(batch)
            if self.most is not None and self.most < batch:
                # Canvases are in order of length: take some of each, not only short ones.
                chosen = torch.linspace(0, batch - 1, self.most).round().long()
            first, second = sizes(canvas.free[chosen.to(canvas.free.device)].cpu(), plan, canvas.later_rows)
            try:
                room = self._room(cache, first)
                later = None if second is None else self._graph(cache, room, second, plan)
                return self._graph(cache, room, first, plan), later, chosen
            except torch.OutOfMemoryError as error:
                self.forget()
                if len(chosen) == 1:
                    advice = "close what else uses it, or give a checkpoint of fewer bits or --device cpu"
                    raise DeviceError(f"GPU memory has no room for one canvas beside the weights; {advice}") from error
                self.most = len(chosen) // 2
                log.warning("GPU memory is full: at most %d canvases at once from now on", self.most)

    def _room(self, cache: Cache, size: Size) -> Room:
        if cache.whole(0)[0] is not self._prefix:
            # The prefix buffer has moved; graphs would go on reading the old one.
            self.forget()
            self._prefix = cache.whole(0)[0]
        key = (size.batch, size.width)
        if key not in self._rooms:
            self._rooms[key] = self._network.room(*key)
        return self._rooms[key]

    def _graph(self, cache: Cache, room: Room, size: Size, plan: Plan) -> StepGraph:
        limits = Limits(plan.entropy_bound, plan.confidence_threshold)
        key = (size, limits)
        graph = self.graphs.pop(key, None)
        if graph is None:
            graph = StepGraph(self._network, cache, room, size, limits)
            if self._model.device.type == "cuda":
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                graph.capture(self._pool)
        self.graphs[key] = graph
        if len(self.graphs) > MAX_GRAPHS:
            del self.graphs[next(iter(self.graphs))]
        return graph

    def forget(self) -> None:
        """Release all graphs and their memory."""
        self.graphs.clear()
        self._rooms.clear()
        self._prefix, self._pool = None, None
        if self._model.device.type == "cuda":
            torch.cuda.empty_cache()


class Report:
    """The decisions of one step, copied to the host while the device goes on."""

    def __init__(self, graph: StepGraph, rows: torch.Tensor, number: int) -> None:
        self._number = number
        names = ("draft", "current", "accepted", "entropy", "finished")
        parts = {name: getattr(graph, name) for name in names} | {"rows": rows}
        self._parts = {name: part.to("cpu", non_blocking=True, copy=True) for name, part in parts.items()}
        self._event = torch.cuda.Event() if rows.device.type == "cuda" else None
        if self._event is not None:
            self._event.record()

    def read(self, ids: torch.Tensor) -> Step:
        """Wait for the copies. The step's tensors are on the host, as wide as the canvases' clean ids [B, C]."""
        if self._event is not None:
            self._event.synchronize()
        parts, clean = self._parts, ids[self._parts["rows"]]

        def wide(part: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
            """The computed rows, and `rest` behind them."""
            return torch.cat((part[:, : rest.shape[1]].to(rest.dtype), rest[:, part.shape[1] :]), dim=1)

        none = torch.zeros_like(clean)
        return Step(
            number=self._number,
            rows=parts["rows"],
            draft=wide(parts["draft"], clean),
            canvas=wide(parts["current"], clean),
            accepted=wide(parts["accepted"], none.bool()),
            entropy=wide(parts["entropy"], none.float()),
            finished=parts["finished"],
        )


def sizes(free: torch.Tensor, plan: Plan, later_rows: int | None) -> tuple[Size, Size | None]:
    """Size classes of the first step and of later steps (None: the same) for canvases with `free` slots [B, C]."""
    batch, columns = free.shape
    width = _class(columns, WIDTHS)
    counts = sorted(free.sum(dim=-1).tolist(), reverse=True)
    survivors = batch if plan.survivors is None else min(plan.survivors, batch)
    rows = width if later_rows is None else min(width, _class(later_rows, ROWS))
    steps = power_of_two(plan.steps)

    def size(canvases: int, read: int) -> Size:
        listed = min(canvases * read, _class(sum(counts[:canvases]), FREE_ROWS))
        return Size(batch=canvases, rows=read, width=width, free=listed, steps=steps)

    first, later = size(batch, width), size(survivors, rows)
    return first, None if later == first else later


def _class(count: int, smallest: int) -> int:
    """`smallest` times a power of two up to 64, then multiples of 32: at most half of a class is padding."""
    return smallest * power_of_two(cdiv(count, smallest)) if count <= 64 else 32 * cdiv(count, 32)
