"""What is read of a DiffusionGemma's `config.json`, with the bounds of every value; it may hold any other keys.

Names are transformers' own (configuration_diffusion_gemma.py, 5.23.0). Nothing of the released network is a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from midspan.engine.api import CheckpointError
from midspan.engine.prompts.prompt import BOS_ID, EOS_ID
from midspan.engine.settings import MOST_IDS, MOST_SLOTS
from midspan.engine.weights.typed_json import Count, KeyProblem, Spelled, Within, allowed, decode

LayerKind = Literal["sliding_attention", "full_attention"]
MOST_LAYERS = 512
Width = Annotated[int, Within(1, 1 << 20)]
Heads = Annotated[int, Within(1, 1024)]
HeadSize = Annotated[int, Within(2, 4096)]
Positions = Annotated[int, Within(1, 1 << 24)]
TokenId = Annotated[int, Within(0, MOST_IDS - 1)]
# What prompts begin and end with; this version knows no others.
Bos = Annotated[int, Within(BOS_ID, BOS_ID)]
Eos = Annotated[int, Within(EOS_ID, EOS_ID)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """The rotary positions of one kind of layer."""

    rope_type: Literal["default", "proportional"]
    rope_theta: Annotated[float, Within(1.0, 1e12)]
    partial_rotary_factor: Annotated[float, Within(0.01, 1.0)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeByKind:
    """Rotary positions by the kind of layer; a kind that the network does not have may be left out."""

    sliding_attention: RopeConfig | None = None
    full_attention: RopeConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """What one layer may have in place of `head_dim` and `num_key_value_heads`, as transformers saves it."""

    head_dim: HeadSize | None = None
    num_key_value_heads: Heads | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """`text_config`: every size of the network."""

    vocab_size: Annotated[int, Within(8, MOST_IDS)]
    hidden_size: Annotated[int, Within(2, 1 << 16)]
    intermediate_size: Width
    num_hidden_layers: Annotated[int, Within(1, MOST_LAYERS)]
    num_attention_heads: Heads
    num_key_value_heads: Heads
    head_dim: HeadSize
    num_experts: Annotated[int, Within(1, 4096)]
    top_k_experts: Annotated[int, Within(1, 4096)]
    moe_intermediate_size: Width
    rms_norm_eps: Annotated[float, Within(1e-12, 1.0)]
    sliding_window: Positions
    layer_types: Annotated[tuple[LayerKind, ...], Count(1, MOST_LAYERS)]
    rope_parameters: RopeByKind
    hidden_activation: Literal["gelu_pytorch_tanh"]
    attention_bias: Literal[False] = False
    # transformers leaves this key out of what it saves when it is 30.
    final_logit_softcapping: Annotated[float, Within(0.01, 10_000.0)] = 30.0
    global_head_dim: HeadSize | None = None
    num_global_key_value_heads: Heads | None = None
    # Only what differs from the sliding layers, under numbers such as "05".
    per_layer_config: dict[Annotated[str, Spelled(r"\d{1,4}", "a layer's number")], LayerConfig] | None = None
    max_position_embeddings: Positions | None = None
    bos_token_id: Bos | None = BOS_ID
    eos_token_id: Eos | Annotated[tuple[TokenId, ...], Count(1, 64)] | None = EOS_ID
    pad_token_id: TokenId | None = None

    def layer(self, index: int) -> tuple[int, int]:
        """The head size and the key-value heads of one layer. Raises KeyProblem where `global_head_dim` is missing."""
        if self.layer_types[index] == "sliding_attention":
            return self.head_dim, self.num_key_value_heads
        if self.per_layer_config is not None:
            own = {int(number): of_one for number, of_one in self.per_layer_config.items()}.get(index, LayerConfig())
            return own.head_dim or self.head_dim, own.num_key_value_heads or self.num_key_value_heads
        if self.global_head_dim is None:
            raise KeyProblem("text_config.global_head_dim", f"is missing; give {allowed(HeadSize)}")
        return self.global_head_dim, self.num_global_key_value_heads or self.num_key_value_heads

    def rope(self, index: int) -> RopeConfig:
        """The rotary positions of one layer. Raises KeyProblem where they are missing."""
        kind = self.layer_types[index]
        both = self.rope_parameters
        found = both.sliding_attention if kind == "sliding_attention" else both.full_attention
        if found is None:
            raise KeyProblem(f"text_config.rope_parameters.{kind}", "is missing; give an object")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`config.json`; only checkpoints whose head is the embedding are read."""

    model_type: Literal["diffusion_gemma"]
    text_config: TextConfig
    canvas_length: Annotated[int, Within(4, MOST_SLOTS)]
    tie_word_embeddings: Literal[True] = True


def read_config_values(values: Mapping[str, Any], file: str) -> Config:
    """The values of a config.json, each within its bounds, all fitting each other.

    Raises CheckpointError, with one line that names the file, the key and what is allowed.
    """
    try:
        config = decode(Config, values, others=True)
        _check(config.text_config)
    except KeyProblem as problem:
        raise CheckpointError(f"{file}: {problem}") from problem
    return config


def _check(text: TextConfig) -> None:
    """Raises KeyProblem for values that would do one by one and do not fit each other."""
    ends = text.eos_token_id if isinstance(text.eos_token_id, tuple) else ()
    kinds, most = len(text.layer_types), text.vocab_size - 1
    if kinds != text.num_hidden_layers:
        raise KeyProblem("text_config.layer_types", f"has {kinds}; give {text.num_hidden_layers}, one for each layer")
    if text.top_k_experts > text.num_experts:
        raise KeyProblem("text_config.top_k_experts", f"is {text.top_k_experts}; give {text.num_experts} at most")
    if (text.pad_token_id or 0) > most:
        raise KeyProblem("text_config.pad_token_id", f"is {text.pad_token_id}; give {most} at most")
    if ends and (EOS_ID not in ends or max(ends) > most):
        raise KeyProblem("text_config.eos_token_id", f"is a list; give {EOS_ID} in it, and {most} at most")
    for index in range(text.num_hidden_layers):
        _check_layer(text, index)


def _check_layer(text: TextConfig, index: int) -> None:
    """Raises KeyProblem for heads and rotary positions that no layer can have."""
    (head, groups), heads = text.layer(index), text.num_attention_heads
    full = text.layer_types[index] == "full_attention"
    if head % 2:
        key = "text_config.global_head_dim" if full else "text_config.head_dim"
        raise KeyProblem(key, f"is {head} in layer {index}; give an even number")
    if heads % groups:
        key = "text_config.num_global_key_value_heads" if full else "text_config.num_key_value_heads"
        raise KeyProblem(key, f"is {groups} in layer {index}; give a divisor of num_attention_heads, {heads}")
    rope = text.rope(index)
    if rope.rope_type == "default" and rope.partial_rotary_factor != 1.0:
        key = f"text_config.rope_parameters.{text.layer_types[index]}.partial_rotary_factor"
        raise KeyProblem(key, f"is {rope.partial_rotary_factor}; give 1, as rope_type is default")
