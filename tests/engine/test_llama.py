"""The llama family's network against transformers' classes, with tiny random float32 weights."""

from typing import Any

import pytest
import torch
import transformers

from midspan.engine.api import CheckpointError
from midspan.engine.llama import KeyValueCache, Llama, LlamaConfig, load_state
from tests.engine.llama_tiny import config

# Both sides compute float32 sums of some hundred products of order one, in different order: an error of at most some
# 100 * 2**-24 * 4 layers, which is 2.4e-5; the tolerance is four times that.
TOLERANCE = 1e-4
FAMILIES = {
    "llama": config(),
    "llama-untied-with-biases": config(tie_word_embeddings=False, attention_bias=True),
    "qwen2": config(model_type="qwen2"),
    "qwen2-untied": config(model_type="qwen2", tie_word_embeddings=False),
    "qwen3": config(model_type="qwen3", head_dim=16),
    "llama3-rope": config(
        max_position_embeddings=512,
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "linear-rope": config(rope_scaling={"type": "linear", "factor": 4.0}),
    "yarn": config(
        model_type="qwen2",
        max_position_embeddings=512,
        rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128},
    ),
    "yarn-with-scales": config(
        head_dim=16,
        max_position_embeddings=512,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 50_000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 16.0,
            "mscale": 0.7,
            "mscale_all_dim": 1.0,
            "truncate": False,
        },
    ),
}


def pair(found: dict[str, Any]) -> tuple[Llama, Any]:
    """Our network and transformers' with the same random weights, biases and norms."""
    torch.manual_seed(0)
    theirs = (
        transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(
                found["model_type"], **{k: v for k, v in found.items() if k != "model_type"}
            )
        )
        .float()
        .eval()
    )
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = Llama(LlamaConfig.from_json(found))
    load_state(ours, theirs.state_dict())
    return ours, theirs


@pytest.mark.parity
@pytest.mark.parametrize("found", FAMILIES.values(), ids=FAMILIES)
def test_logits_are_those_of_transformers(found: dict[str, Any]) -> None:
    ours, theirs = pair(found)
    ids = torch.randint(0, found["vocab_size"], (2, 19))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(ids)), theirs(ids).logits, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parity
@pytest.mark.parametrize("found", FAMILIES.values(), ids=FAMILIES)
def test_a_text_in_pieces_behind_a_cache_has_the_logits_of_the_whole_text(found: dict[str, Any]) -> None:
    ours, theirs = pair(found)
    ids = torch.randint(0, found["vocab_size"], (1, 17))
    cache = KeyValueCache(ours.config, 1, 40, torch.float32)
    with torch.no_grad():
        read = [ours(ids[:, begin:end], cache) for begin, end in ((0, 7), (7, 8), (8, 17))]
        cache.truncate(7)
        again = ours(ids[:, 7:12], cache)
        whole = theirs(ids, output_hidden_states=True)
        found_logits = ours.logits(torch.cat(read, 1))
    torch.testing.assert_close(found_logits, whole.logits, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(again, torch.cat(read, 1)[:, 7:12], atol=TOLERANCE, rtol=TOLERANCE)
    assert cache.length == 12


def test_a_config_written_by_transformers_is_read(tmp_path: Any) -> None:
    theirs = transformers.AutoConfig.for_model("llama", hidden_size=32, num_attention_heads=4, rope_theta=100_000.0)
    found = LlamaConfig.from_json(theirs.to_dict())
    assert (found.head_dim, found.kv_heads, found.rope.theta) == (8, 4, 100_000.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "mamba"}, 'model_type is "mamba"; give "llama" or "qwen2" or "qwen3"'),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, 'rope_scaling.rope_type is "longrope"; give "def'),
        (
            {"rope_scaling": {"rope_type": "yarn"}},
            "rope_scaling.factor is missing; give a number, as",
        ),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0, "high_freq_factor": 1.0}}, "high_freq_factor is 1.0; give"),
        ({"rope_parameters": 5}, "rope_parameters is no object"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3; give a divisor of num_attention_heads, 4"),
        ({"head_dim": 7}, "head_dim is 7; give an even number"),
        ({"use_sliding_window": True}, "use_sliding_window is true; give false"),
        ({"hidden_act": "gelu"}, 'hidden_act is "gelu"; give "silu"'),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; give a whole number from 1 to 512"),
    ],
)
def test_an_unsupported_config_is_refused_with_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        LlamaConfig.from_json(config(**change))


def test_missing_sizes_and_tensors_and_wrong_shapes_are_named() -> None:
    found = config()
    del found["hidden_size"]
    with pytest.raises(CheckpointError, match="hidden_size is missing"):
        LlamaConfig.from_json(found)
    tensors = dict(Llama(LlamaConfig.from_json(config())).state_dict())
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight` is \[64, 32\], config.json says \[70, 32\]"):
        load_state(Llama(LlamaConfig.from_json(config(vocab_size=70))), tensors)
    tensors.pop("model.norm.weight")
    with pytest.raises(CheckpointError, match=r"`model.norm.weight` is missing"):
        load_state(Llama(LlamaConfig.from_json(config())), tensors)
