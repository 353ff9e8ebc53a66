"""One training run in one folder: model, optimisers, data, and its state on disk."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from midspan.engine.api import CheckpointError
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.training.fim import FimBatch, FimSampler, fim_loss
from midspan.engine.training.gaps import GapRecipe, LineIds
from midspan.engine.training.objective import CanvasBatch, canvas_loss, causal_loss, corrupt, soft_canvas
from midspan.engine.training.precision import compute_dtype
from midspan.engine.training.shape import config_json, grow, initialise
from midspan.engine.weights.load import load_weights, read_config

FILLER_ID, BOS_ID = 3, 2
OBJECTIVES = ("canvas", "fim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that a run depends on besides the corpus; `minutes` counts training steps, not pauses.

    `objective` names what follows the causal share: `canvas`, or `fim` for the autoregressive twin. `fim_share` of the
    steps among the canvases are fill-in-the-middle, so that the same weights can also draft from left to right.
    """

    objective: str = "canvas"
    fim_share: float = 0.4
    hidden: int = 256
    layers: int = 6
    intermediate: int = 768
    minutes: float = 120.0
    causal_share: float = 0.3
    batch: int = 16
    sequence: int = 512
    text_tokens: int = 256
    narrow: int = 6
    wide: int = 1
    filler_weight: float = 0.2
    text_stride: int = 1
    text_weight: float = 0.5
    self_conditioning: float = 0.5
    middle_weight: float = 4.0
    muon_rate: float = 3e-3
    adam_rate: float = 3e-3
    warmup_steps: int = 50
    decay_share: float = 0.4
    average: float = 0.99
    measure_every: int = 100
    seed: int = 0

    def gaps(self) -> GapRecipe:
        """Narrow canvases of 32 for single lines, wide ones of 64 for up to four."""
        return GapRecipe(
            text_tokens=self.text_tokens,
            widths=(32,) * self.narrow + (64,) * self.wide,
            slot_sizes=(8, 16, 24, 32),
            filler_id=FILLER_ID,
            bos_id=BOS_ID,
        )


@dataclass(slots=True)
class Progress:
    """How far a run is; saved beside the weights. Its optimisers began without memory at step `fresh`."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    fresh: int = 0


class Stream(IterableDataset[CanvasBatch | FimBatch | torch.Tensor]):
    """An endless stream of batches of one kind, drawn in DataLoader workers."""

    def __init__(self, sampler: FimSampler, recipe: Recipe, batch: int, kind: str, seed: int) -> None:
        self._sampler, self._recipe, self._batch, self._kind, self._seed = sampler, recipe, batch, kind, seed

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        self._sampler.reseed(self._seed + (7_919 * (info.id + 1) if info else 0))
        while True:
            yield self.draw()

    def draw(self) -> Any:
        """One batch of the stream's kind."""
        if self._kind == "causal":
            return self._sampler.sequences(self._batch, self._recipe.sequence + 1)
        if self._kind == "fim":
            return self._sampler.documents(self._batch, self._recipe.sequence + 1)
        return self._sampler.canvases(self._batch)


class Run:
    """Model, optimisers and data of one training run; float32 masters learn, an average ships."""

    def __init__(
        self, recipe: Recipe, corpus: Path, out: Path, *, compiled: bool = True, device: str = "cpu", loaders: int = 0
    ) -> None:
        self.recipe, self.out, self.progress = recipe, out, Progress()
        self.device, self._loaders = torch.device(device), loaders
        self.workers = dist.get_world_size() if dist.is_initialized() else 1
        self.worker = dist.get_rank() if dist.is_initialized() else 0
        self.batch = recipe.batch // self.workers
        out.mkdir(parents=True, exist_ok=True)
        tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
        tokenizer.save(str(out / "tokenizer.json"))
        sizes = {"hidden": recipe.hidden, "layers": recipe.layers, "intermediate": recipe.intermediate}
        self.config = config_json(tokenizer.get_vocab_size(), max(recipe.gaps().widths), **sizes)
        (out / "config.json").write_text(json.dumps(self.config, indent=2))
        torch.manual_seed(recipe.seed)
        self.model = initialise(DiffusionGemma(ModelConfig.from_json(self.config))).to(self.device)
        self.masters = {name: p.detach().clone().requires_grad_() for name, p in self.model.named_parameters()}
        self.average = {name: p.detach().clone() for name, p in self.masters.items()}
        self.optimisers = _optimisers(self.masters, recipe)
        self.model.to(compute_dtype(self.device.type))
        lines = LineIds.of(tokenizer.get_vocab(), BOS_ID)
        self.data = FimSampler(corpus / "train.bin", lines, recipe.gaps(), self._data_seed())
        self.heldout = FimSampler(corpus / "heldout.bin", lines, recipe.gaps(), recipe.seed)
        self._streams: dict[str, Iterator[Any]] = {}
        self.generator = torch.Generator().manual_seed(self._data_seed())
        self._causal = torch.compile(causal_loss) if compiled else causal_loss
        self._canvas = torch.compile(canvas_loss) if compiled else canvas_loss
        self._soft = torch.compile(soft_canvas) if compiled else soft_canvas
        self._fim = torch.compile(fim_loss) if compiled else fim_loss

    def _data_seed(self) -> int:
        """A stream of its own for every worker and every resumption."""
        return self.recipe.seed + 1_000_003 * self.worker + self.progress.step

    @property
    def fraction(self) -> float:
        """The share of the time budget that is spent, 0 to 1."""
        return min(1.0, self.progress.seconds / (60 * self.recipe.minutes))

    @property
    def phase(self) -> str:
        """`causal`, then the recipe's objective."""
        return "causal" if self.fraction < self.recipe.causal_share else self.recipe.objective

    @property
    def kind(self) -> str:
        """The kind of the next step's batch: the phase, or `fim` in its turn among canvases."""
        share, step = self.recipe.fim_share, self.progress.step
        in_turn = int((step + 1) * share) > int(step * share)
        return "fim" if in_turn and self.phase == "canvas" else self.phase

    def step(self) -> dict[str, torch.Tensor]:
        """One optimiser step of the present phase; returns its losses in nats."""
        began, kind = time.perf_counter(), self.kind
        loss, losses = self._losses(kind, self._next(kind))
        loss.backward()
        self._update()
        recipe = self.recipe
        canvas_rows = recipe.text_tokens + sum(recipe.gaps().widths)
        self.progress.tokens += recipe.batch * (canvas_rows if kind == "canvas" else recipe.sequence)
        self.progress.step += 1
        # A pause must not use up the budget: no step takes this long once compiled.
        spent = torch.tensor(min(time.perf_counter() - began, 20.0), dtype=torch.float64)
        if self.workers > 1:
            dist.all_reduce(spent, dist.ReduceOp.MAX)
        self.progress.seconds += float(spent)
        return losses

    def _losses(self, kind: str, batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch of one kind, and its parts for the log, in nats."""
        if kind == "canvas":
            slot, causal = self._canvas_losses(batch)
            return slot + self.recipe.text_weight * causal, {"slot": slot.detach(), "causal": causal.detach()}
        if kind == "fim":
            loss, middle = self._fim(self.model, batch.to(self.device), self.recipe.middle_weight)
            return loss, {"fim": loss.detach(), "middle": middle.detach()}
        loss = self._causal(self.model, batch.to(self.device))
        return loss, {"causal": loss.detach()}

    def _next(self, kind: str) -> Any:
        """The next batch of a kind; its stream begins at the first call."""
        if kind not in self._streams:
            # The causal phase is over then, and its workers would wait for ever.
            self._streams.pop("causal", None)
            stream = self._stream(self.data, kind, self._data_seed())
            loader = DataLoader(
                stream, batch_size=None, num_workers=self._loaders, prefetch_factor=8 if self._loaders else None
            )
            self._streams[kind] = iter(loader)
        return next(self._streams[kind])

    def _stream(self, sampler: FimSampler, kind: str, seed: int) -> Stream:
        return Stream(sampler, self.recipe, self.batch, kind, seed)

    def _canvas_losses(self, batch: CanvasBatch) -> tuple[torch.Tensor, torch.Tensor]:
        recipe = self.recipe
        noisy = corrupt(batch, self.model.config.vocab_size, self.generator).to(self.device)
        batch, soft = batch.to(self.device), None
        if torch.rand((), generator=self.generator) < recipe.self_conditioning:
            with torch.no_grad():
                soft = self._soft(self.model, batch, noisy, 0.7)
        return self._canvas(
            self.model,
            batch,
            noisy,
            soft,
            filler_id=FILLER_ID,
            filler_weight=recipe.filler_weight,
            text_stride=recipe.text_stride,
        )

    @torch.no_grad()
    def _update(self) -> None:
        """One optimiser step on the masters, then the average and the weights that compute follow."""
        computing = dict(self.model.named_parameters())
        for name, master in self.masters.items():
            grad = computing[name].grad
            master.grad = torch.zeros_like(master) if grad is None else grad.float()
            computing[name].grad = None
        if self.workers > 1:
            self._average_gradients()
        torch.nn.utils.clip_grad_norm_(list(self.masters.values()), 1.0)
        for optimiser, rate in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * self._rate_factor()
            optimiser.step()
        learnt = [master.detach() for master in self.masters.values()]
        torch._foreach_lerp_(list(self.average.values()), learnt, 1.0 - self.recipe.average)
        self._compute_with(self.masters)

    @torch.no_grad()
    def _compute_with(self, weights: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(weights[name])

    def _average_gradients(self) -> None:
        """One all-reduce over every master's gradient."""
        gradients = [master.grad for master in self.masters.values() if master.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient) / self.workers)

    def _rate_factor(self) -> float:
        """Warm-up by steps, then constant, then linear to a twentieth over the last `decay_share` of the budget."""
        warm = min(1.0, (self.progress.step - self.progress.fresh + 1) / self.recipe.warmup_steps)
        return warm * min(1.0, 0.05 + 0.95 * (1.0 - self.fraction) / self.recipe.decay_share)

    @torch.no_grad()
    def measure(self, batches: int = 4) -> dict[str, float]:
        """Held-out losses of the averaged weights in nats, always on the same texts and gaps."""
        generator = self.generator.get_state()
        self.generator.manual_seed(0)
        self._compute_with(self.average)
        sums = dict[str, float]()
        for kind in (self.phase, "fim") if self.recipe.fim_share and self.phase == "canvas" else (self.phase,):
            self.heldout.reseed(self.recipe.seed)
            stream = self._stream(self.heldout, kind, self.recipe.seed)
            for _ in range(batches):
                for name, loss in self._losses(kind, stream.draw())[1].items():
                    sums[f"heldout_{name}"] = sums.get(f"heldout_{name}", 0.0) + float(loss) / batches
        self._compute_with(self.masters)
        self.generator.set_state(generator)
        return sums

    def save(self) -> None:
        """Write `state.pt` with one rename, so that a kill leaves the older one whole."""
        state = {
            "masters": {name: master.detach() for name, master in self.masters.items()},
            "average": self.average,
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "progress": asdict(self.progress),
        }
        torch.save(state, self.out / "state.tmp")
        (self.out / "state.tmp").replace(self.out / "state.pt")

    @torch.no_grad()
    def resume(self) -> None:
        """Go on from `state.pt`; the data stream restarts from a seed that depends on the step."""
        state: dict[str, Any] = torch.load(self.out / "state.pt", weights_only=True, map_location=self.device)
        for name, master in self.masters.items():
            master.copy_(state["masters"][name])
            self.average[name].copy_(state["average"][name])
        self._compute_with(self.masters)
        for (optimiser, _), saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        self.generator.manual_seed(self._data_seed())
        self._streams.clear()

    @torch.no_grad()
    def go_on_from(self, folder: Path) -> None:
        """Begin with a packaged checkpoint's weights, log and tokenizer, where its run's state is gone.

        The budget counts from where its log ends. A network with more layers than the checkpoint grows them. Raises
        CheckpointError, or OSError where there is no log.
        """
        if (folder / "tokenizer.json").read_bytes() != (self.out / "tokenizer.json").read_bytes():
            raise CheckpointError(f"{folder}: has another tokenizer than the corpus; make that with its `--tokenizer`")
        whole, packaged = self.model.config, ModelConfig.from_json(read_config(folder))
        fewer = len(packaged.layers) < len(whole.layers)
        # All other sizes must be the run's; loading checks them.
        started = DiffusionGemma(replace(whole, layers=packaged.layers) if fewer else whole)
        load_weights(started, folder, torch.float32, torch.device("cpu"))
        if fewer:
            smaller, started = started, DiffusionGemma(whole)
            grow(smaller, started)
        for name, parameter in started.named_parameters():
            self.masters[name].copy_(parameter)
            self.average[name].copy_(parameter)
        self._compute_with(self.masters)
        if self.worker == 0:
            shutil.copyfile(folder / "log.jsonl", self.out / "log.jsonl")
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        last = next(row for row in reversed(rows) if "step" in row)
        self.progress = Progress(last["step"], last["seconds"], last["tokens"], fresh=last["step"])
        self.generator.manual_seed(self._data_seed())


def _optimisers(masters: dict[str, torch.Tensor], recipe: Recipe) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon (Jordan 2024) for the hidden matrices, AdamW for embeddings, experts, norms."""
    hidden = [p for name, p in masters.items() if p.ndim == 2 and "embed" not in name and "router" not in name]
    chosen = {id(p) for p in hidden}
    rest = [p for p in masters.values() if id(p) not in chosen]
    muon = torch.optim.Muon(hidden, lr=recipe.muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(rest, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, recipe.muon_rate), (adam, recipe.adam_rate)]
