"""One command that trains the embedded model: a plain autoregressive phase, then canvases on the same weights.

`python -m midspan.engine.training.train --corpus runs/corpus --out runs/embedded --minutes 120`; the same command again
resumes. Progress, rate and time left go to stderr, one JSON row a measurement to `log.jsonl`, a picture to `loss.png`.
Under `torchrun --nproc-per-node 2 -m ...` each process takes half of the batch on a thread of its own: they meet once a
step instead of once an operation, which on a busy CPU is the faster way to use two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import Tokenizer

from midspan.engine.allocator import keep_large_blocks
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.training.gaps import GapRecipe, GapSampler
from midspan.engine.training.objective import CanvasBatch, canvas_loss, causal_loss, corrupt, soft_canvas
from midspan.engine.training.plot import plot_losses
from midspan.engine.training.shape import config_json, initialise

FILLER_ID = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a run depends on besides the corpus; `minutes` of training steps, pauses not counted."""

    minutes: float = 120.0
    causal_share: float = 0.5
    batch: int = 16
    sequence: int = 512
    text_tokens: int = 256
    canvases: int = 4
    width: int = 64
    slot_sizes: tuple[int, ...] = (8, 16, 24, 32)
    filler_weight: float = 0.2
    text_stride: int = 4
    text_weight: float = 0.5
    self_conditioning: float = 0.5
    muon_rate: float = 3e-3
    adam_rate: float = 3e-3
    warmup_steps: int = 50
    decay_share: float = 0.4
    measure_every: int = 100
    seed: int = 0


@dataclass(slots=True)
class Progress:
    """Where a run stands; saved beside the weights."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0


class Run:
    """Model, optimisers and data of one training run in one folder; bf16 weights compute, float32 masters learn."""

    def __init__(self, recipe: Recipe, corpus: Path, out: Path, *, compiled: bool = True) -> None:
        self.recipe, self.out, self.progress = recipe, out, Progress()
        self.workers = dist.get_world_size() if dist.is_initialized() else 1
        self.worker = dist.get_rank() if dist.is_initialized() else 0
        self.batch = recipe.batch // self.workers
        out.mkdir(parents=True, exist_ok=True)
        tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
        tokenizer.save(str(out / "tokenizer.json"))
        self.config = config_json(tokenizer.get_vocab_size(), recipe.width)
        (out / "config.json").write_text(json.dumps(self.config, indent=2))
        torch.manual_seed(recipe.seed)
        self.model = initialise(DiffusionGemma(ModelConfig.from_json(self.config)))
        self.masters = {name: p.detach().clone().requires_grad_() for name, p in self.model.named_parameters()}
        self.optimisers = _optimisers(self.masters, recipe)
        self.model.bfloat16()
        gaps = GapRecipe(
            text_tokens=recipe.text_tokens,
            canvases=recipe.canvases,
            width=recipe.width,
            slot_sizes=recipe.slot_sizes,
            filler_id=FILLER_ID,
        )
        newlines = {i for token, i in tokenizer.get_vocab().items() if token.startswith("Ċ")}
        self.data = GapSampler(corpus / "train.bin", newlines, gaps, self._data_seed())
        self.heldout = GapSampler(corpus / "heldout.bin", newlines, gaps, recipe.seed)
        self.generator = torch.Generator().manual_seed(self._data_seed())
        self._causal = torch.compile(causal_loss) if compiled else causal_loss
        self._canvas = torch.compile(canvas_loss) if compiled else canvas_loss
        self._soft = torch.compile(soft_canvas) if compiled else soft_canvas

    def _data_seed(self) -> int:
        """A stream of its own for every worker and every resumption."""
        return self.recipe.seed + 1_000_003 * self.worker + self.progress.step

    @property
    def fraction(self) -> float:
        """The share of the time budget that is spent, 0 to 1."""
        return min(1.0, self.progress.seconds / (60 * self.recipe.minutes))

    @property
    def phase(self) -> str:
        """`causal`, then `canvas`."""
        return "causal" if self.fraction < self.recipe.causal_share else "canvas"

    def step(self) -> dict[str, float]:
        """One optimiser step of the present phase; returns its losses in nats."""
        began = time.perf_counter()
        recipe = self.recipe
        if self.phase == "causal":
            loss = self._causal(self.model, self.data.sequences(self.batch, recipe.sequence + 1))
            losses = {"causal": float(loss.detach())}
            self.progress.tokens += recipe.batch * recipe.sequence
        else:
            slot, causal = self._canvas_losses(self.data)
            loss = slot + recipe.text_weight * causal
            losses = {"slot": float(slot.detach()), "causal": float(causal.detach())}
            self.progress.tokens += recipe.batch * (recipe.text_tokens + recipe.canvases * recipe.width)
        loss.backward()
        self._update()
        self.progress.step += 1
        # A paused process must not use up the budget: no honest step takes this long once compiled.
        spent = torch.tensor(min(time.perf_counter() - began, 20.0), dtype=torch.float64)
        if self.workers > 1:
            dist.all_reduce(spent, dist.ReduceOp.MAX)
        self.progress.seconds += float(spent)
        return losses

    def _canvas_losses(self, data: GapSampler) -> tuple[torch.Tensor, torch.Tensor]:
        recipe = self.recipe
        batch: CanvasBatch = data.canvases(self.batch)
        noisy = corrupt(batch, self.model.config.vocab_size, self.generator)
        soft = None
        if torch.rand((), generator=self.generator) < recipe.self_conditioning:
            with torch.no_grad():
                soft = self._soft(self.model, batch, noisy, 0.7, max(recipe.slot_sizes))
        return self._canvas(
            self.model,
            batch,
            noisy,
            soft,
            max_slots=max(recipe.slot_sizes),
            filler_id=FILLER_ID,
            filler_weight=recipe.filler_weight,
            text_stride=recipe.text_stride,
        )

    @torch.no_grad()
    def _update(self) -> None:
        """Gradients to the masters, one optimiser step, masters back to the bf16 weights."""
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
        for name, master in self.masters.items():
            computing[name].copy_(master)

    def _average_gradients(self) -> None:
        """One all-reduce over every master's gradient."""
        gradients = [master.grad for master in self.masters.values() if master.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient) / self.workers)

    def _rate_factor(self) -> float:
        """Warm-up by steps, then constant, then linear to a twentieth over the last `decay_share` of the budget."""
        warm = min(1.0, (self.progress.step + 1) / self.recipe.warmup_steps)
        return warm * min(1.0, 0.05 + 0.95 * (1.0 - self.fraction) / self.recipe.decay_share)

    @torch.no_grad()
    def measure(self, batches: int = 4) -> dict[str, float]:
        """Held-out losses in nats, always on the same texts and gaps."""
        state, generator = self.heldout.random.bit_generator.state, self.generator.get_state()
        self.generator.manual_seed(0)
        recipe, sums = self.recipe, {"heldout_causal": 0.0}
        for _ in range(batches):
            if self.phase == "causal":
                ids = self.heldout.sequences(self.batch, recipe.sequence + 1)
                sums["heldout_causal"] += float(self._causal(self.model, ids)) / batches
            else:
                slot, causal = self._canvas_losses(self.heldout)
                sums["heldout_slot"] = sums.get("heldout_slot", 0.0) + float(slot) / batches
                sums["heldout_causal"] += float(causal) / batches
        self.heldout.random.bit_generator.state = state
        self.generator.set_state(generator)
        return sums

    def save(self) -> None:
        """Write `state.pt` (resume) in one rename, so that a kill leaves the older one whole."""
        state = {
            "masters": {name: master.detach() for name, master in self.masters.items()},
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "progress": asdict(self.progress),
        }
        torch.save(state, self.out / "state.tmp")
        (self.out / "state.tmp").replace(self.out / "state.pt")

    @torch.no_grad()
    def resume(self) -> None:
        """Go on from `state.pt`; the data stream restarts from a seed that depends on the step."""
        state: dict[str, Any] = torch.load(self.out / "state.pt", weights_only=True)
        computing = dict(self.model.named_parameters())
        for name, master in self.masters.items():
            master.copy_(state["masters"][name])
            computing[name].copy_(master)
        for (optimiser, _), saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        self.generator.manual_seed(self._data_seed())
        self.data.reseed(self._data_seed())


def _optimisers(masters: dict[str, torch.Tensor], recipe: Recipe) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon (Jordan 2024) for the hidden matrices, AdamW for embeddings, experts, norms."""
    hidden = [p for name, p in masters.items() if p.ndim == 2 and "embed" not in name and "router" not in name]
    chosen = {id(p) for p in hidden}
    rest = [p for p in masters.values() if id(p) not in chosen]
    muon = torch.optim.Muon(hidden, lr=recipe.muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(rest, lr=recipe.adam_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, recipe.muon_rate), (adam, recipe.adam_rate)]


def _log(out: Path, row: dict[str, Any]) -> None:
    with (out / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def train(run: Run) -> None:
    """Step until the budget is spent, measuring, saving and drawing on the way."""
    recipe, smooth = run.recipe, dict[str, float]()
    while run.fraction < 1.0:
        phase, before = run.phase, run.progress.seconds
        for name, value in run.step().items():
            smooth[name] = value if name not in smooth else 0.95 * smooth[name] + 0.05 * value
        progress = run.progress
        if progress.step % 10 == 0 and run.worker == 0:
            left = 60 * recipe.minutes - progress.seconds
            losses = " ".join(f"{name} {value:.3f}" for name, value in smooth.items())
            step_s = progress.seconds - before
            print(
                f"{phase} step {progress.step} {losses} {progress.tokens / 1e6:.1f}M tokens "
                f"{step_s:.2f} s/step {left / 60:.1f} min left",
                file=sys.stderr,
                flush=True,
            )
        if progress.step % recipe.measure_every == 0 or run.fraction >= 1.0:
            measured = run.measure()
            if run.worker == 0:
                _log(run.out, {**asdict(progress), "phase": run.phase, **smooth, **measured})
                run.save()
                plot_losses(run.out / "log.jsonl", run.out / "loss.png")


def main() -> None:
    """Read the command line, train or resume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--eager", action="store_true", help="do not compile; for tiny trials")
    numbers = [field for field in fields(Recipe) if field.name != "slot_sizes"]
    for field in numbers:
        kind = float if "float" in str(field.type) else int
        parser.add_argument("--" + field.name.replace("_", "-"), type=kind, default=field.default)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_large_blocks()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        dist.init_process_group("gloo")
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in numbers})
    run = Run(recipe, arguments.corpus, arguments.out, compiled=not arguments.eager)
    if (arguments.out / "state.pt").exists():
        run.resume()
    elif run.worker == 0:
        _log(arguments.out, {"recipe": asdict(recipe), "threads": arguments.threads, "torch": torch.__version__})
    train(run)


if __name__ == "__main__":
    main()
