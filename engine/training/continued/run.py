"""One continued training in one folder: float32 masters learn, all of them; what computes is bf16 where the CPU has
products of it, float32 elsewhere."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from midspan.engine.llama import Llama, rotations
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.training.continued.batches import Batch, make_batch
from midspan.engine.training.continued.layers import SHORT_TOKENS, Layer, long_layer, short_layer
from midspan.engine.training.continued.recipes import Recipe, RowRecipe
from midspan.engine.training.continued.rows import RowBuilder
from midspan.engine.training.continued.state import Progress, moments, read_state, restore, write_state
from midspan.engine.training.continued.texts import Corpus
from midspan.engine.training.precision import compute_dtype
from midspan.engine.weights.load_llama import open_llama

# The marks of rows.py, by their name in prompts/fim_templates.json.
TEMPLATE = "smollm2-continued"


class Run:
    """Network, optimiser and data. A step's batch depends on seed and step alone, so that a run resumes exactly."""

    def __init__(
        self, recipe: Recipe, base: Path, corpus: Corpus, out: Path, clock: Callable[[], float] = time.process_time
    ) -> None:
        self.recipe, self.corpus, self.out, self.progress = recipe, corpus, out, Progress()
        self.layers: tuple[Layer, Layer] = (short_layer, long_layer)
        self._clock = clock
        self.network, self._tokenizer = open_llama(base), Tokenizer.from_file(str(base / "tokenizer.json"))
        self._config: dict[str, Any] = json.loads((base / "config.json").read_text())
        prompt = Prompt(base / "tokenizer.json", prefix_tokens=recipe.long.tokens, filler_id=0)
        self._builders = {sizes: RowBuilder(prompt, sizes) for sizes in (recipe.short, recipe.long)}
        self.masters = {name: p.detach().clone().requires_grad_() for name, p in self.network.named_parameters()}
        self.optimiser = torch.optim.AdamW(
            list(self.masters.values()), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
        )
        self.network.to(compute_dtype("cpu"))
        self._counted = clock()

    @property
    def fraction(self) -> float:
        """The share of the CPU minutes that is spent, 0 to 1."""
        return min(1.0, self.progress.cpu_seconds / (60 * self.recipe.minutes))

    @property
    def sizes(self) -> RowRecipe:
        """Short rows at first, long ones in the last part."""
        return self.recipe.long if self.fraction >= self.recipe.long_from else self.recipe.short

    def builder(self) -> RowBuilder:
        """Lays out the rows of the present part."""
        return self._builders[self.sizes]

    def resume(self) -> bool:
        """Go on from what the folder holds; False where that is nothing."""
        found = read_state(self.out)
        if found is None:
            return False
        tensors, self.progress = found
        self.progress.restarts += 1
        restore(tensors, self.optimiser, self.masters, self.progress.step)
        self._compute_with_masters()
        return True

    def step(self) -> dict[str, float]:
        """One optimiser step; returns nats of gaps a token and a byte, by language too, and of text outside."""
        recipe, chance = self.recipe, random.Random(f"{self.recipe.seed} {self.progress.step}")
        batch = make_batch(self.builder(), self.corpus, recipe, chance)
        losses = self._losses(batch)
        ((losses * batch.weights).sum() / batch.weights.sum()).backward()
        self._update()
        progress = self.progress
        progress.step, progress.tokens = progress.step + 1, progress.tokens + batch.ids.numel()
        progress.learnt += int((batch.weights > 0).sum())
        self.count_time()
        return summary(losses.detach(), batch, self.corpus.languages)

    def count_time(self) -> None:
        """Add the CPU time since it was last counted."""
        now = self._clock()
        self.progress.cpu_seconds += now - self._counted
        self._counted = now

    def save(self) -> None:
        """Write the state."""
        self.progress.saves += 1
        write_state(self.out, moments(self.optimiser, self.masters), self.progress)

    def export(self, folder: Path) -> None:
        """Write a checkpoint folder in Hugging Face's format with bf16 weights, which fills as rows were laid out."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: master.detach().bfloat16() for name, master in self.masters.items()}
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self._config | {"torch_dtype": "bfloat16"}, indent=1) + "\n")
        self._tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "midspan.json").write_text(json.dumps({"layout": {"template": TEMPLATE}}) + "\n")

    def _losses(self, batch: Batch) -> Tensor:
        """Nats [K] of the learnt places."""
        network: Llama = self.network
        x: Tensor = network.model.embed_tokens(batch.ids)
        rope = rotations(network.config, 0, batch.ids.shape[1], x.dtype)
        run_layer = self.layers[batch.ids.shape[1] > SHORT_TOKENS]
        for layer in network.model.blocks():
            x = run_layer(layer, x, rope)
        hidden = x.reshape(-1, x.shape[-1])[batch.places]
        return F.cross_entropy(network.logits(hidden).float(), batch.targets, reduction="none")

    @torch.no_grad()
    def _update(self) -> None:
        """Gradients to the masters, one optimiser step at the present rate, masters back to what computes."""
        for name, parameter in self.network.named_parameters():
            if parameter.grad is not None:
                self.masters[name].grad = parameter.grad.float()
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(list(self.masters.values()), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate * self._rate_factor()
        self.optimiser.step()
        self._compute_with_masters()

    @torch.no_grad()
    def _compute_with_masters(self) -> None:
        for name, parameter in self.network.named_parameters():
            parameter.copy_(self.masters[name])

    def _rate_factor(self) -> float:
        """Warm-up by steps, then constant, then linear to `least_rate` over the last `decay_share` of the minutes.

        With more minutes the same command goes on from there, and the rate rises to the constant again.
        """
        warm = min(1.0, (self.progress.step + 1) / self.recipe.warmup_steps)
        left, share = 1.0 - self.fraction, self.recipe.decay_share
        return warm * max(self.recipe.least_rate, left / share if left < share else 1.0)


def summary(losses: Tensor, batch: Batch, languages: list[str]) -> dict[str, float]:
    """Mean nats of a batch's gaps by token and by byte, of each language by byte, and of the text outside by token."""
    gaps = batch.weights == 1.0
    found = {
        "gap": float(losses[gaps].mean()),
        "gap_byte": float(losses[gaps].sum()) / sum(batch.bytes.values()),
        "text": float(losses[(batch.weights > 0) & ~gaps].mean()),
    }
    for language, size in batch.bytes.items():
        found[f"{languages[language]}_byte"] = float(losses[gaps & (batch.language == language)].sum()) / size
    return found


def recipe_row(recipe: Recipe) -> dict[str, Any]:
    """A recipe as it is logged."""
    return asdict(recipe)
