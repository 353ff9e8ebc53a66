"""A llama-family network's weights as the CPU's own kernels read them: in int8 or four bits, packed in panels.

They are packed as they are read, a layer at a time, so that a load takes little more memory than the packed network:
one layer, or the embeddings, as they are read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch

from midspan.engine.backends.packed_weights import PackedWeights, not_full
from midspan.engine.llama import DecoderLayer, LlamaConfig
from midspan.engine.weights.load_llama import Matrix, numbers, plain
from midspan.kernels import native
from midspan.kernels.int8 import STEPS
from midspan.kernels.native import Packed
from midspan.kernels.nibbles import GROUP, Nibbles

QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
LAYER = "model.layers."
EMBEDDINGS, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"


def unfit_decoder(config: LlamaConfig, lanes: int) -> str | None:
    """Why the kernels cannot run a network of these sizes; None if they can. Panels, groups, registers must be full."""
    panel, size = native.WIDE * lanes, config.head_dim
    parts = (
        ("hidden_size", config.hidden_size, max(panel, GROUP)),
        ("vocab_size", config.vocab_size, panel),
        ("intermediate_size", config.intermediate_size, max(panel // 2, GROUP)),
        ("queries together", config.heads * size, GROUP),
        ("queries, keys and values together", (config.heads + 2 * config.kv_heads) * size, panel),
        ("head_dim", size, 2 * lanes),
    )
    return not_full(parts)


class DecoderWeights(PackedWeights):
    """The structures that the kernels read, and the tensors that they point to; embeddings are those of the head.

    `parameters` is how many numbers the network has, `layer_products` how many of a layer's meet each row.
    """

    def __init__(self, config: LlamaConfig, tensors: Iterable[tuple[str, Matrix]], lanes: int, threads: int) -> None:
        """Pack tensors under Hugging Face's names; all of the network's, those of a layer near each other."""
        super().__init__(lanes, grouped=True)
        blocks = (native.Block * config.layers)()
        with torch.device("meta"):
            names = {name for name, _ in DecoderLayer(config).named_parameters()}
        self.parameters = self.layer_products = 0
        layers, top = defaultdict[int, dict[str, Matrix]](dict), dict[str, Packed]()
        norm = 0
        for name, matrix in tensors:
            self.parameters += numbers(matrix)
            if name == NORM:
                norm = self._keep(plain(matrix))
                continue
            if name in (EMBEDDINGS, HEAD):
                self.forms.add("int8")
                top[name] = Packed.of(plain(matrix), lanes, grouped=True)
                continue
            place, _, part = name.removeprefix(LAYER).partition(".")
            layers[int(place)][part] = matrix
            if len(layers[int(place)]) == len(names):
                self._lay(blocks[int(place)], layers.pop(int(place)))
        self.decoder = native.Decoder(
            *(config.hidden_size, config.heads, config.kv_heads, config.head_dim, config.intermediate_size),
            *(config.layers, threads, config.rms_eps, blocks, norm),
        )
        self._embeddings, head = top[EMBEDDINGS], top[EMBEDDINGS if config.tied else HEAD]
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

    def _lay(self, out: native.Block, layer: Mapping[str, Matrix]) -> None:
        self.layer_products = sum(numbers(one) for name, one in layer.items() if name.endswith("proj.weight"))
        out.qkv = self._joined([layer[f"{name}.weight"] for name in QKV], lambda parts: torch.cat(parts))
        out.out = self._pack(layer["self_attn.o_proj.weight"])
        gate_up = [layer[f"mlp.{name}_proj.weight"] for name in ("gate", "up")]
        out.gate_up = self._joined(gate_up, lambda parts: native.beside(parts[0], parts[1], self._lanes))
        out.down = self._pack(layer["mlp.down_proj.weight"])
        biases = [plain(layer[f"{name}.bias"]) for name in QKV if f"{name}.bias" in layer]
        out.qkv_bias = self._keep(torch.cat(biases)) if biases else None
        out.out_bias = self._vector(layer, "self_attn.o_proj.bias")
        out.q_norm, out.k_norm = (self._vector(layer, f"self_attn.{name}_norm.weight") for name in "qk")
        out.before_attention = self._vector(layer, "input_layernorm.weight")
        out.before_mlp = self._vector(layer, "post_attention_layernorm.weight")

    def _joined(self, weights: list[Matrix], how: Callable[[list[torch.Tensor]], torch.Tensor]) -> native.Product:
        """One product of several weights, whose rows `how` lays together; in four bits where all of them are."""
        four_bits = [one for one in weights if isinstance(one, Nibbles)]
        if len(four_bits) == len(weights):
            return self._pack(Nibbles.together(four_bits, how))
        return self._pack(how([plain(one) for one in weights]))

    def _vector(self, layer: Mapping[str, Matrix], name: str) -> int | None:
        return self._keep(plain(layer[name])) if name in layer else None
