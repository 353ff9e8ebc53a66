"""What is read of a `llama`, `qwen2` or `qwen3` checkpoint's `config.json`, with the bounds of every value.

Names are transformers' own (5.23.0); the file may hold any other keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from midspan.engine.api import CheckpointError
from midspan.engine.marks_settings import Family
from midspan.engine.settings import MOST_IDS
from midspan.engine.weights.config_json import MOST_LAYERS, Heads, HeadSize, Positions, Width
from midspan.engine.weights.typed_json import KeyProblem, Within, decode

Theta = Annotated[float, Within(1.0, 1e12)]
Factor = Annotated[float, Within(0.01, 10_000.0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeValues:
    """Rotary positions and how they are stretched, as `rope_parameters` or, in older files, `rope_scaling` says."""

    rope_type: Literal["default", "linear", "llama3", "yarn"] = "default"
    rope_theta: Theta | None = None
    factor: Factor | None = None
    original_max_position_embeddings: Positions | None = None
    low_freq_factor: Factor = 1.0
    high_freq_factor: Factor = 4.0
    attention_factor: Factor | None = None
    beta_fast: Factor | None = None
    beta_slow: Factor | None = None
    mscale: Factor | None = None
    mscale_all_dim: Factor | None = None
    truncate: bool = True
    partial_rotary_factor: Annotated[float, Within(1.0, 1.0)] = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaValues:
    """The sizes and switches of one decoder."""

    model_type: Family
    vocab_size: Annotated[int, Within(8, MOST_IDS)]
    hidden_size: Annotated[int, Within(2, 1 << 16)]
    intermediate_size: Width
    num_hidden_layers: Annotated[int, Within(1, MOST_LAYERS)]
    num_attention_heads: Heads
    num_key_value_heads: Heads | None = None
    head_dim: HeadSize | None = None
    rms_norm_eps: Annotated[float, Within(1e-12, 1.0)] = 1e-6
    rope_theta: Theta = 10_000.0
    max_position_embeddings: Positions = 2048
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    hidden_act: Literal["silu"] = "silu"
    mlp_bias: Literal[False] = False
    use_sliding_window: Literal[False] = False

    @property
    def groups(self) -> int:
        """Key and value heads."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head(self) -> int:
        """The size of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


def read_llama_values(found: Mapping[str, Any], file: str) -> tuple[LlamaValues, RopeValues]:
    """The values of a config.json, each within its bounds, all fitting each other.

    Raises CheckpointError, with one line that names the file, the key and what is allowed.
    """
    key = "rope_parameters" if found.get("rope_parameters") is not None else "rope_scaling"
    rope = {} if found.get(key) is None else found[key]
    try:
        values = decode(LlamaValues, {name: one for name, one in found.items() if one is not None}, others=True)
        if not isinstance(rope, dict):
            raise KeyProblem(key, "is no object; give one")
        stretch = decode(RopeValues, _spelled_today(rope), key, others=True)
        _check(values, stretch, key)
    except KeyProblem as problem:
        raise CheckpointError(f"{file}: {problem}") from problem
    return values, stretch


def _spelled_today(rope: Mapping[str, Any]) -> dict[str, Any]:
    """The object with today's name of its kind, without keys that say nothing."""
    named = {"rope_type": rope["type"]} if "type" in rope and "rope_type" not in rope else {}
    return {key: value for key, value in {**rope, **named}.items() if value is not None}


def _check(values: LlamaValues, rope: RopeValues, key: str) -> None:
    """Raises KeyProblem for values that would do one by one and do not fit each other."""
    if values.num_attention_heads % values.groups:
        allowed = f"give a divisor of num_attention_heads, {values.num_attention_heads}"
        raise KeyProblem("num_key_value_heads", f"is {values.groups}; {allowed}")
    if values.head % 2 or not values.head:
        raise KeyProblem("head_dim", f"is {values.head}; give an even number")
    if rope.rope_type != "default" and rope.factor is None:
        raise KeyProblem(f"{key}.factor", f"is missing; give a number, as rope_type is {rope.rope_type}")
    if rope.rope_type == "llama3" and rope.high_freq_factor <= rope.low_freq_factor:
        raise KeyProblem(f"{key}.high_freq_factor", f"is {rope.high_freq_factor}; give more than low_freq_factor")
