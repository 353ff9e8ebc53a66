"""Random networks for gpu.py: the 26B shape or a tiny one, made on the device, also as transformers' class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from midspan.engine.backends.gpu import TritonBackend
from midspan.engine.bench.cases import RELEASE, TINY, Sizes
from midspan.engine.model import DiffusionGemma, Layer, ModelConfig
from midspan.engine.weights.load import table
from midspan.engine.weights.quantized import quantize_experts, quantize_linear

SLIDING, FULL = "sliding_attention", "full_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Sizes that gpu.py measures: shapes (canvases, width), tokens before them, forwards an infill, calls of each."""

    sizes: Sizes
    layers: int
    shapes: tuple[tuple[int, int], ...]
    contexts: tuple[int, ...]
    infills: tuple[int, ...]
    repeats: int


WHOLE = Extent(
    sizes=RELEASE,
    layers=30,
    shapes=((1, 32), (1, 64), (1, 128), (1, 256), (4, 64), (8, 64), (4, 256)),
    contexts=(2048, 16_384),
    infills=(8, 16),
    repeats=30,
)
SMALL = Extent(sizes=TINY, layers=2, shapes=((1, 4),), contexts=(3,), infills=(2,), repeats=1)


def config_json(extent: Extent) -> dict[str, Any]:
    """config.json of the release's text network, or of a small one of the same kind."""
    size = extent.sizes
    text = {
        "model_type": "diffusion_gemma_text",
        "vocab_size": size.vocab,
        "hidden_size": size.width,
        "intermediate_size": size.dense,
        "num_hidden_layers": extent.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.sliding[0],
        "num_global_key_value_heads": size.full[0],
        "head_dim": size.sliding[1],
        "global_head_dim": size.full[1],
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 262_144,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "sliding_window": size.window,
        # Every sixth layer is full, and so is the last one; two layers are one of each kind.
        "layer_types": [
            FULL if number % 6 == 5 or number == extent.layers - 1 else SLIDING for number in range(extent.layers)
        ],
        "rope_parameters": {
            SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
            FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6},
        },
        "final_logit_softcapping": 30.0,
        "num_experts": size.experts,
        "top_k_experts": size.top_k,
        "moe_intermediate_size": size.expert,
        "use_bidirectional_attention": "vision",
        "tie_word_embeddings": True,
    }
    return {
        "model_type": "diffusion_gemma",
        "canvas_length": max(width for _, width in extent.shapes),
        "text_config": text,
    }


@torch.no_grad()
def random_backend(extent: Extent, form: str, device: torch.device) -> TritonBackend:
    """The network with random weights of one form, made on the device."""
    with torch.device("meta"):
        model = DiffusionGemma(ModelConfig.from_json(config_json(extent))).to(extent.sizes.dtype)
        for layer in (one for one in model.layers if isinstance(one, Layer) and form != "bf16"):
            quantize_experts(layer, "e2m1" if form == "nvfp4" else form)
            for name in ("self_attn", "mlp") if form == "fp8" else ():
                parent = layer.get_submodule(name)
                for child in [child for child, one in parent.named_children() if isinstance(one, torch.nn.Linear)]:
                    quantize_linear(parent, child)
    model.to_empty(device=device)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        _randomise(name, tensor, extent.sizes.width, form)
    model.embed_scale.fill_(extent.sizes.width**0.5)
    return TritonBackend(model.eval())


def _randomise(name: str, tensor: torch.Tensor, width: int, form: str) -> None:
    """Matrices get variance 1 / width, so that no layer dominates the others; norms and factors are one."""
    if tensor.dtype == torch.uint8:
        tensor.random_(0, 256)
    elif name.endswith("_channel"):
        # Random e2m1 codes have a standard deviation of about 3; in int4 the groups' scales hold all of the scale.
        tensor.fill_(width**-0.5 / 3 if form == "nvfp4" else 1.0)
    elif name.endswith(("gate_up_scale", "down_scale")) and tensor.dtype == torch.float8_e4m3fn:
        # A scale of NVFP4 has no sign.
        tensor.fill_(1.0)
    elif tensor.dtype == torch.float8_e4m3fn:
        # Expert by expert: a float32 copy of the whole stack would take gigabytes.
        for piece in tensor if tensor.ndim == 3 else [tensor]:
            piece.copy_(torch.randn(piece.shape, device=tensor.device))
    elif name.endswith(("gate_up_scale", "down_scale", "_proj.scale")):
        tensor.fill_(width**-0.5 * (0.25 if tensor.ndim == 3 else 1.0))
    elif tensor.ndim >= 2:
        tensor.normal_(std=width**-0.5)
    else:
        tensor.fill_(1.0)


def theirs_with(extent: Extent, model: DiffusionGemma, experts: str) -> Any:
    """transformers' network with the model's own tensors, not copies, and a way of running experts."""
    from transformers import DiffusionGemmaConfig, DiffusionGemmaForBlockDiffusion

    from midspan.engine.weights.export import BLIND, blind_tensors

    def config(wanted: Extent) -> Any:
        return DiffusionGemmaConfig(**config_json(wanted) | {"vision_config": BLIND, "image_token_id": -1})

    size = extent.sizes
    blind = {name: tensor.to(model.device, model.dtype) for name, tensor in blind_tensors(size.width).items()}
    ways: dict[str, Any] = {"attn_implementation": "sdpa", "experts_implementation": experts, "dtype": model.dtype}
    with torch.device("meta"):
        theirs: Any = DiffusionGemmaForBlockDiffusion._from_config(config(extent), **ways)
    weights = {name: tensor.detach() for name, tensor in table(model).items()} | blind
    theirs.load_state_dict(weights, strict=False, assign=True)
    theirs.tie_weights()
    # Buffers that no checkpoint holds (frequencies, a scale) are taken from a small network, which has the same ones.
    less = replace(size, vocab=64, dense=8, experts=1, top_k=1, expert=8)
    small: Any = DiffusionGemmaForBlockDiffusion._from_config(config(replace(extent, sizes=less, layers=2)), **ways)
    for name, buffer in small.named_buffers():
        parent, _, leaf = name.rpartition(".")
        if theirs.get_buffer(name).is_meta:
            setattr(theirs.get_submodule(parent), leaf, buffer.to(model.device))
    left = [name for name, one in [*theirs.named_parameters(), *theirs.named_buffers()] if one.is_meta]
    assert not left, f"no values for {left}"
    return theirs.eval()
