"""A one-expert network's weights as the CPU's own kernels read them: int8 in panels, what reads the same rows together.

Norm scales lie in the columns of the product behind them, as in onnx_graph.py; what is computed stands in model.py.
"""

from __future__ import annotations

import torch

from midspan.engine.model import DiffusionGemma, Layer, LayerShape, ModelConfig
from midspan.kernels import native
from midspan.kernels.native import Packed


def unfit(config: ModelConfig, lanes: int) -> str | None:
    """Why the kernels cannot read a network of these sizes; None where they can. Panels and registers must be full."""
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
    for name, value, of in parts:
        if value % of:
            return f"{name} is {value}, no multiple of {of}"
    return f"head_dim is {size}, above {native.LARGEST_HEAD}" if size > native.LARGEST_HEAD else None


class Weights:
    """The structure that the kernels are given, and what it points at."""

    def __init__(self, model: DiffusionGemma, kinds: list[LayerShape], lanes: int, threads: int) -> None:
        self._lanes = lanes
        self._kept: list[object] = []
        config, self.network = model.config, native.Network()
        net = self.network
        net.hidden, net.heads, net.head_dim = config.hidden_size, config.heads, config.layers[0].head_dim
        net.dense, net.expert, net.layers = config.intermediate_size, config.expert_size, len(config.layers)
        net.vocabulary, net.threads, net.eps, net.softcap = config.vocab_size, threads, config.eps, config.softcap
        layers = (native.Layer * net.layers)()
        for number, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            self._lay(layers[number], layer)
            layers[number].kind = kinds.index(config.layers[number])
        net.layer = layers
        net.norm = self._keep(model.norm.weight)
        net.embeddings = self._keep(model.embed(torch.arange(config.vocab_size)))
        parts = model.self_conditioning
        gate, up = (_folded(one.weight, parts.pre_norm.weight) for one in (parts.gate_proj, parts.up_proj))
        net.condition_gate_up = self._pack(native.beside(gate, up, lanes))
        net.condition_down = self._pack(parts.down_proj.weight)
        net.head = self._pack(model.embed_tokens.weight)

    def _lay(self, out: native.Layer, layer: Layer) -> None:
        attention, mlp, experts = layer.self_attn, layer.mlp, layer.experts
        # Full layers have no v_proj: V is K before its norm and rotation.
        values = attention.k_proj if attention.v_proj is None else attention.v_proj
        qkv = torch.cat([part.weight for part in (attention.q_proj, attention.k_proj, values)])
        out.qkv = self._pack(_folded(qkv, layer.input_layernorm.weight))
        out.out = self._pack(attention.o_proj.weight)
        dense, expert = layer.pre_feedforward_layernorm.weight, layer.pre_feedforward_layernorm_2.weight
        gate, up = experts.gate_up_proj[0].chunk(2)
        gates = torch.cat((_folded(mlp.gate_proj.weight, dense), _folded(gate, expert)))
        ups = torch.cat((_folded(mlp.up_proj.weight, dense), _folded(up, expert)))
        out.gate_up = self._pack(native.beside(gates, ups, self._lanes))
        out.dense_down = self._pack(mlp.down_proj.weight)
        # The routing weight of the only expert is the softmax of one number, 1.
        out.expert_down = self._pack(experts.down_proj[0] * layer.router.per_expert_scale)
        out.q_norm, out.k_norm = self._keep(attention.q_norm.weight), self._keep(attention.k_norm.weight)
        out.after_attention = self._keep(layer.post_attention_layernorm.weight)
        out.after_dense = self._keep(layer.post_feedforward_layernorm_1.weight)
        out.after_expert = self._keep(layer.post_feedforward_layernorm_2.weight)
        out.after_both = self._keep(layer.post_feedforward_layernorm.weight)
        out.scalars = self._keep(torch.cat((layer.layer_scalar, layer.encoder_layer_scalar)))

    def _keep(self, tensor: torch.Tensor) -> int:
        held = tensor.detach().float().clone(memory_format=torch.contiguous_format)
        self._kept.append(held)
        return held.data_ptr()

    def _pack(self, weight: torch.Tensor) -> native.Product:
        packed = Packed.of(weight, self._lanes)
        self._kept.append(packed)
        return packed.product()


def _folded(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Weight [n, d] with the scale [d] of the norm before it in its columns."""
    return weight.float() * scale.float()
