"""A llama-family network's weights as the CPU's own kernels read them: in int8, packed in panels."""

from __future__ import annotations

import torch
from torch import nn

from midspan.engine.backends.packed_weights import PackedWeights, not_full
from midspan.engine.llama import DecoderLayer, Llama, LlamaConfig, RmsNorm
from midspan.kernels import native
from midspan.kernels.int8 import STEPS
from midspan.kernels.native import Packed


def unfit_decoder(config: LlamaConfig, lanes: int) -> str | None:
    """Why the kernels cannot run a network of these sizes; None if they can. Panels and registers must be full."""
    panel, size = native.WIDE * lanes, config.head_dim
    parts = (
        ("hidden_size", config.hidden_size, panel),
        ("vocab_size", config.vocab_size, panel),
        ("intermediate_size", config.intermediate_size, panel // 2),
        ("queries, keys and values together", (config.heads + 2 * config.kv_heads) * size, panel),
        ("head_dim", size, 2 * lanes),
    )
    return not_full(parts)


class DecoderWeights(PackedWeights):
    """The structures that the kernels read, and the tensors that they point to; embeddings are those of the head.

    `layer_products` is how many numbers of a layer's weights meet each row.
    """

    def __init__(self, model: Llama, lanes: int, threads: int) -> None:
        super().__init__(lanes)
        config = model.config
        blocks = (native.Block * config.layers)()
        for block, layer in zip(blocks, model.model.blocks(), strict=True):
            self._lay(block, layer)
        self.decoder = native.Decoder(
            *(config.hidden_size, config.heads, config.kv_heads, config.head_dim, config.intermediate_size),
            *(config.layers, threads, config.rms_eps, blocks, self._keep(model.model.norm.weight)),
        )
        self.layer_products = sum(weight.numel() for weight in model.model.blocks()[0].parameters())
        head = Packed.of(model.head, lanes)
        self._embeddings = head if config.tied else Packed.of(model.model.embed_tokens.weight, lanes)
        self._kept += [head, blocks]
        # Of a canvas network only what the vocabulary's functions read.
        self.network = native.Network(hidden=config.hidden_size, threads=threads, softcap=0.0, head=head.product())

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids [N] to the first layer's rows [N, d]. Raises ValueError for ids that are none."""
        packed = self._embeddings
        if len(wrong := ids[(ids < 0) | (ids >= packed.n)]):
            raise ValueError(f"token id {int(wrong[0])} is not one of {packed.n}")
        width = native.WIDE * self._lanes
        panels = packed.weight.view(packed.n // width, packed.k // 4, width, 4)
        rows = panels[ids // width, :, ids % width].reshape(len(ids), packed.k)
        return rows.float() * (packed.scale[ids] * STEPS)[:, None]

    def _lay(self, out: native.Block, layer: DecoderLayer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        out.qkv = self._pack(torch.cat([part.weight for part in parts]))
        out.out = self._pack(attention.o_proj.weight)
        out.gate_up = self._pack(native.beside(mlp.gate_proj.weight, mlp.up_proj.weight, self._lanes))
        out.down = self._pack(mlp.down_proj.weight)
        biases: list[torch.Tensor] = [part.bias for part in parts if part.bias is not None]
        out.qkv_bias = self._keep(torch.cat(biases)) if biases else None
        out.out_bias = None if attention.o_proj.bias is None else self._keep(attention.o_proj.bias)
        out.q_norm, out.k_norm = self._scale(attention.q_norm), self._scale(attention.k_norm)
        out.before_attention = self._scale(layer.input_layernorm)
        out.before_mlp = self._scale(layer.post_attention_layernorm)

    def _scale(self, norm: nn.Module) -> int | None:
        return self._keep(norm.weight) if isinstance(norm, RmsNorm) else None
