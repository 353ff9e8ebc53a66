"""The oracle: transformers' DiffusionGemmaForBlockDiffusion on tiny random checkpoints that both sides read from disk.

It runs with DynamicCache, SDPA and eager experts: StaticCache is wrong past the sliding window in transformers 5.23.0,
and the grouped matmul of experts does not run on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion, DynamicCache
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    DiffusionGemmaGenerationConfig,
    EntropyBoundSampler,
    EntropyBoundSamplerConfig,
)
from transformers.utils.logging import disable_progress_bar

from benchmarks.cache_keyword import with_cache
from midspan.engine.canvas import Plan, Rng
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.weights.load import load_weights, read_config

VOCAB, CANVAS = 64, 12
CPU = torch.device("cpu")
VISION = {
    "model_type": "gemma4_vision",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "global_head_dim": 8,
    "position_embedding_size": 4,
    "patch_size": 2,
}
BRANCHES = (
    "post_attention_layernorm.weight",
    "post_feedforward_layernorm.weight",
    "self_conditioning.down_proj.weight",
)

disable_progress_bar()


def oracle_config(**changes: Any) -> DiffusionGemmaConfig:
    """Three layers, grouped heads, two head sizes, four experts; `changes` go to text_config."""
    text = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "head_dim": 8,
        "global_head_dim": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 24,
        "max_position_embeddings": 512,
        "use_bidirectional_attention": "vision",
        **changes,
    }
    return DiffusionGemmaConfig(text_config=text, vision_config=VISION, canvas_length=CANVAS, image_token_id=60)


def randomise(model: torch.nn.Module, *, seed: int, sharpness: float, branch: float) -> None:
    """Make every weight, norm and scalar random, so that one that is left out shows.

    `sharpness` scales the last norm, hence the logits; `branch` scales residual branches and self-conditioning.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim >= 2:
                tensor.copy_(noise * tensor.shape[-1] ** -0.5)
            else:
                tensor.copy_(1.0 + 0.25 * noise)
            if name.endswith("decoder.norm.weight"):
                tensor.mul_(sharpness)
            if name.endswith(BRANCHES):
                tensor.mul_(branch)


def save_checkpoint(
    folder: Path, *, seed: int = 0, sharpness: float = 4.0, branch: float = 1.0, **changes: Any
) -> Path:
    """A random float32 checkpoint as transformers saves it."""
    theirs = DiffusionGemmaForBlockDiffusion(oracle_config(**changes))
    randomise(theirs, seed=seed, sharpness=sharpness, branch=branch)
    theirs.tie_weights()
    theirs.save_pretrained(folder)
    return folder


def open_ours(folder: Path, dtype: torch.dtype = torch.float32) -> DiffusionGemma:
    """Our network with the folder's weights, on the CPU."""
    ours = DiffusionGemma(ModelConfig.from_json(read_config(folder)))
    load_weights(ours, folder, dtype, CPU)
    return ours.eval()


def open_theirs(folder: Path, dtype: torch.dtype = torch.float32) -> Recorded:
    """transformers' network with the folder's weights, on the CPU."""
    theirs = Recorded.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", experts_implementation="eager", local_files_only=True
    )
    assert isinstance(theirs, Recorded)
    theirs.eval()  # type: ignore[no-untyped-call]
    return theirs


def new_cache(theirs: DiffusionGemmaForBlockDiffusion) -> DynamicCache:
    """The cache that transformers' own generate makes."""
    return DynamicCache(config=theirs.config.get_text_config())


def prefill(theirs: DiffusionGemmaForBlockDiffusion, ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    """Encode ids [B, N] behind the cache; hidden [B, N, d]."""
    hidden: torch.Tensor = theirs.model.encoder(
        input_ids=ids, **with_cache(theirs.model.encoder, cache)
    ).last_hidden_state
    return hidden


def denoise_logits(
    theirs: DiffusionGemmaForBlockDiffusion,
    canvas: torch.Tensor,
    cache: DynamicCache,
    conditioning: torch.Tensor | None = None,
) -> torch.Tensor:
    """Soft-capped logits [B, C, V] of one decoder read."""
    out = theirs(decoder_input_ids=canvas, self_conditioning_logits=conditioning, **with_cache(theirs, cache))
    logits: torch.Tensor = out.logits
    return logits


@contextmanager
def tiny_sizes() -> Iterator[None]:
    """Without gradients and on one thread, because waking a second one takes longer than these products."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def distance(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest absolute difference."""
    return float((left.float() - right.float()).abs().max())


@contextmanager
def outputs_of(modules: Iterator[torch.nn.Module] | torch.nn.ModuleList) -> Iterator[list[torch.Tensor]]:
    """The outputs of the modules in the order in which they run."""
    seen: list[torch.Tensor] = []
    hooks = [module.register_forward_hook(lambda _m, _a, out: seen.append(out.clone())) for module in modules]
    yield seen
    for hook in hooks:
        hook.remove()


class InjectedRng(Rng):
    """Noise and uniform numbers from one list each, so that two loops make the same random choices."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.noises: list[torch.Tensor] = []
        self.uniforms: list[torch.Tensor] = []
        self._noise = torch.Generator().manual_seed(seed)
        self._uniform = torch.Generator().manual_seed(seed + 1)

    def noise(self, shape: tuple[int, int], vocab_size: int) -> torch.Tensor:
        """The next canvas of noise."""
        self.noises.append(torch.randint(0, vocab_size, shape, generator=self._noise))
        return self.noises[-1]

    def sample(self, probabilities: torch.Tensor) -> torch.Tensor:
        """One id a row, by the next uniform numbers through the cumulative distribution in float64."""
        self.uniforms.append(torch.rand(len(probabilities), 1, generator=self._uniform, dtype=torch.float64))
        return torch.searchsorted(probabilities.double().cumsum(-1), self.uniforms[-1]).squeeze(1).clamp_(max=VOCAB - 1)


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """One step of transformers' loop."""

    raw: torch.Tensor  # logits before the temperature [B, C, V]
    processed: torch.Tensor  # after it; rows of finished canvases are those of the step that finished them
    draft: torch.Tensor
    canvas: torch.Tensor
    accepted: torch.Tensor
    finished: torch.Tensor


@dataclass
class Trace:
    """A whole generation: per canvas its steps, and the ids that came out."""

    canvases: list[list[TracedStep]] = field(default_factory=list)
    sequences: torch.Tensor = field(default_factory=lambda: torch.empty(0))


class Recorded(DiffusionGemmaForBlockDiffusion):
    """transformers' own generate, recorded step by step; only its random numbers are replaced."""

    draws: InjectedRng
    trace: Trace

    def _prepare_sampler(self, generation_config: DiffusionGemmaGenerationConfig) -> EntropyBoundSampler:
        sampler = super()._prepare_sampler(generation_config)

        def initialize_canvas(batch_size: int, device: torch.device) -> torch.Tensor:
            return self.draws.noise((batch_size, CANVAS), VOCAB)

        # The sampler's own name for its source of noise.
        sampler.initialize_canvas = initialize_canvas  # type: ignore[method-assign, assignment]
        return sampler

    def _prepare_denoiser_inputs(self, **inputs: Any) -> Any:  # type: ignore[override]
        self.trace.canvases.append([])
        return super()._prepare_denoiser_inputs(**inputs)

    def _denoising_step(self, **inputs: Any) -> Any:  # type: ignore[override]
        forward, raw = inputs.pop("decoder_forward"), list[torch.Tensor]()

        def watched(**arguments: Any) -> Any:
            out = forward(**arguments)
            raw.append(out.logits)
            return out

        canvas, draft, processed, finished = super()._denoising_step(decoder_forward=watched, **inputs)
        self.trace.canvases[-1].append(
            TracedStep(
                raw=raw[0],
                processed=processed.float(),
                draft=draft,
                canvas=canvas,
                accepted=inputs["sampler"].accepted_token_mask,
                finished=finished.clone(),
            )
        )
        return canvas, draft, processed, finished


def generate(theirs: Recorded, prompt: torch.Tensor, canvases: int, plan: Plan, seed: int) -> Trace:
    """Run transformers' generate over `canvases` canvases behind prompt [B, N] with injected draws."""
    theirs.draws, theirs.trace = InjectedRng(seed), Trace()
    rules = DiffusionGemmaGenerationConfig(
        max_new_tokens=canvases * CANVAS,
        max_denoising_steps=plan.steps,
        sampler_config=EntropyBoundSamplerConfig(entropy_bound=plan.entropy_bound),
        t_min=plan.t_min,
        t_max=plan.t_max,
        stability_threshold=1,
        confidence_threshold=plan.confidence_threshold,
    )

    def multinomial(probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        assert num_samples == 1
        return theirs.draws.sample(probabilities)[:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "multinomial", multinomial)
        # Nothing is compiled here, and marking a step would import the whole compiler.
        patch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
        out: Any = theirs.generate(prompt, generation_config=rules)  # type: ignore[arg-type]
    theirs.trace.sequences = out.sequences
    return theirs.trace
