"""A one-expert network's weights as the CPU's own kernels read them: folded (folding.py), in int8, packed in panels."""

from __future__ import annotations

import torch

from midspan.engine.backends.folding import FoldedLayer, condition_gate_up
from midspan.engine.backends.packed_weights import PackedWeights, not_full
from midspan.engine.model import DiffusionGemma, Layer, LayerShape, ModelConfig
from midspan.kernels import native


def unfit(config: ModelConfig, lanes: int) -> str | None:
    """Why the kernels cannot run a network of these sizes; None if they can. Panels and registers must be full."""
    panel, size = native.WIDE * lanes, config.layers[0].head_dim
    heads, inner = config.heads * size, config.intermediate_size + config.expert_size
    parts = (
        ("hidden_size", config.hidden_size, panel),
        ("vocab_size", config.vocab_size, panel),
        ("intermediate_size", config.intermediate_size, panel // 2),
        ("intermediate_size and moe_intermediate_size together", inner, panel // 2),
        ("queries, keys and values together", 3 * heads, panel),
        ("head_dim", size, 2 * lanes),
    )
    if (why := not_full(parts)) is not None:
        return why
    return f"head_dim is {size}, above {native.LARGEST_HEAD}" if size > native.LARGEST_HEAD else None


class Weights(PackedWeights):
    """The structure that the kernels read, and the tensors that it points to."""

    def __init__(self, model: DiffusionGemma, kinds: list[LayerShape], lanes: int, threads: int) -> None:
        super().__init__(lanes)
        config, self.network = model.config, native.Network()
        net = self.network
        net.hidden, net.heads, net.head_dim = config.hidden_size, config.heads, config.layers[0].head_dim
        net.dense, net.expert, net.layers = config.intermediate_size, config.expert_size, len(config.layers)
        net.threads, net.eps, net.softcap = threads, config.eps, config.softcap
        layers = (native.Layer * net.layers)()
        for number, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            self._lay(layers[number], layer)
            layers[number].kind = kinds.index(config.layers[number])
        net.layer = layers
        net.norm = self._keep(model.norm.weight)
        net.embeddings = self._keep(model.embed(torch.arange(config.vocab_size)))
        net.condition_gate_up = self._pack(native.beside(*condition_gate_up(model.self_conditioning), lanes))
        net.condition_down = self._pack(model.self_conditioning.down_proj.weight)
        net.head = self._pack(model.embed_tokens.weight)

    def _lay(self, out: native.Layer, layer: Layer) -> None:
        attention, folded = layer.self_attn, FoldedLayer.of(layer)
        out.qkv = self._pack(folded.qkv)
        out.out = self._pack(attention.o_proj.weight)
        out.gate_up = self._pack(native.beside(folded.gates, folded.ups, self._lanes))
        out.dense_down = self._pack(layer.mlp.down_proj.weight)
        out.expert_down = self._pack(folded.expert_down)
        out.q_norm, out.k_norm = self._keep(attention.q_norm.weight), self._keep(attention.k_norm.weight)
        out.after_attention = self._keep(layer.post_attention_layernorm.weight)
        out.after_dense = self._keep(layer.post_feedforward_layernorm_1.weight)
        out.after_expert = self._keep(layer.post_feedforward_layernorm_2.weight)
        out.after_both = self._keep(layer.post_feedforward_layernorm.weight)
        out.scalars = self._keep(torch.cat((layer.layer_scalar, layer.encoder_layer_scalar)))
