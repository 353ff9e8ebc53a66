"""Making a smaller base with fewer tokens and layers; and converting a GGUF file to a base."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from midspan.engine.api import CheckpointError
from midspan.engine.llama import Llama, load_state
from midspan.engine.training.continued.base import convert, hugging_face_name
from midspan.engine.training.continued.shrink import drop_order, sample_ids, shrink, smaller
from midspan.engine.training.continued.texts import Corpus, Text
from midspan.engine.training.continued.vocabulary import counts, trim
from midspan.engine.weights.load_llama import open_llama
from tests.engine.llama_tiny import SOURCE, SPECIAL, tokenizer, write_checkpoint

CORPUS = Corpus([Text(language="python", package="shop", path="a.py", text=SOURCE * 3)])
WHOLE = tokenizer()


@pytest.fixture(scope="module", autouse=True)
def small_sample() -> Iterator[None]:
    """A sample of a few texts: all are the corpus' only one, so that more have the same shares."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("midspan.engine.training.continued.vocabulary.SAMPLE_CHARS", 3 * len(SOURCE))
        yield


@pytest.fixture(scope="module")
def trimmed() -> tuple[Tokenizer, list[int]]:
    return trim(WHOLE, counts(WHOLE, CORPUS), 300)


@example(text="<|endoftext|>")
@given(text=st.text())
def test_a_trimmed_vocabulary_can_encode_every_text(trimmed: tuple[Tokenizer, list[int]], text: str) -> None:
    ids = trimmed[0].encode(text, add_special_tokens=False).ids
    assert trimmed[0].decode(ids, skip_special_tokens=False) == text


def test_special_tokens_and_the_most_used_tokens_stay(trimmed: tuple[Tokenizer, list[int]]) -> None:
    made, kept = trimmed
    used = counts(WHOLE, CORPUS)
    # The last token brings the tokens that it is merged from.
    assert 300 <= made.get_vocab_size() == len(kept) < 305 < WHOLE.get_vocab_size()
    assert [made.token_to_id(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    assert [WHOLE.id_to_token(old) for old in kept] == [made.id_to_token(new) for new in range(len(kept))]
    gone = set(WHOLE.get_vocab()) - set(made.get_vocab())
    often = sorted(used, key=used.__getitem__, reverse=True)[:20]
    assert gone
    assert not gone & set(often)


def both(folder: Path) -> tuple[Llama, Tokenizer]:
    return open_llama(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_a_smaller_network_keeps_the_rows_of_its_tokens_and_its_layers_in_order(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base")
    shrink(base, tmp_path / "small", CORPUS, 300, [3, 2])
    whole = open_llama(base)
    for layers in (3, 2):
        folder = tmp_path / f"small-{layers}"
        said = json.loads((folder / "shrink.json").read_text())
        small, made = both(folder)
        assert small.config.layers == len(said["layers"]) == layers
        assert {said["layers"][0], said["layers"][-1]} == {0, 3}
        for token in ("def", "Ġitem"):
            old, new = WHOLE.token_to_id(token), made.token_to_id(token)
            assert torch.equal(small.model.embed_tokens.weight[new], whole.model.embed_tokens.weight[old])
        for new, old in enumerate(said["layers"]):
            ours, theirs = small.model.layers[new].state_dict(), whole.model.layers[old].state_dict()
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_layer_is_dropped_without_which_a_text_is_likeliest(tmp_path: Path) -> None:
    network, made = both(write_checkpoint(tmp_path / "base"))
    ids = sample_ids(made, Corpus([Text(language="python", package="s", path="a", text=SOURCE * 9)]))
    [(dropped, nats)] = drop_order(network, ids, 3)
    found = {}
    for gone in (1, 2):
        layers = [layer for layer in range(4) if layer != gone]
        small = Llama(replace(network.config, layers=3))
        load_state(small, smaller(network, list(range(network.config.vocab_size)), layers))
        places = range(ids.shape[1] // 8, ids.shape[1] - 1, 3)
        with torch.no_grad():
            logits = small.logits(small(ids)[:, list(places)])
        targets = ids[:, [place + 1 for place in places]]
        found[gone] = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()))
    assert dropped == min(found, key=found.__getitem__)
    # The same sums in the same order, except for a mean over some 500 float32 terms: 500 * 2**-24, relative.
    assert nats == pytest.approx(found[dropped], rel=3e-5)


def write_gguf(file: Path, architecture: str = "llama") -> dict[str, np.ndarray]:
    """A GGUF of one layer as llama.cpp's converter lays it out; returns its query and key rows in the model's order."""
    writer, chance = gguf.GGUFWriter(file, architecture), np.random.default_rng(0)
    vocabulary = sorted(WHOLE.get_vocab(), key=WHOLE.get_vocab().__getitem__)
    for name, number in (("head_count", 2), ("head_count_kv", 1)):
        writer.add_uint32(f"llama.attention.{name}", number)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    sizes = {"embedding_length": 16, "feed_forward_length": 32, "block_count": 1, "context_length": 64}
    for name, number in sizes.items():
        writer.add_uint32(f"llama.{name}", number)
    writer.add_float32("llama.rope.freq_base", 10_000.0)
    writer.add_string("tokenizer.ggml.pre", "smollm")
    writer.add_array("tokenizer.ggml.tokens", vocabulary)
    writer.add_array("tokenizer.ggml.token_type", [3 if token in SPECIAL else 1 for token in vocabulary])
    writer.add_array("tokenizer.ggml.merges", [" ".join(m) for m in json.loads(WHOLE.to_str())["model"]["merges"]])
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(vocabulary), 16), "output_norm": (16,)}
    shapes |= {"blk.0.attn_norm": (16,), "blk.0.ffn_norm": (16,), "blk.0.attn_v": (8, 16)}
    shapes |= {"blk.0.attn_output": (16, 16)}
    shapes |= {"blk.0.ffn_gate": (32, 16), "blk.0.ffn_up": (32, 16), "blk.0.ffn_down": (16, 32)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", chance.normal(size=shape).astype(np.float32))
    rows = {"q_proj": chance.normal(size=(16, 16)), "k_proj": chance.normal(size=(8, 16))}
    for name, weight in rows.items():
        # llama.cpp's `permute`: the two halves of a head become pairs.
        paired = weight.reshape(-1, 2, 4, 16).swapaxes(1, 2).reshape(weight.shape).astype(np.float32)
        writer.add_tensor(f"blk.0.attn_{name[0]}.weight", paired)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return rows


def test_a_gguf_becomes_a_folder_with_rows_in_the_models_order(tmp_path: Path) -> None:
    rows = write_gguf(tmp_path / "tiny.gguf")
    convert(tmp_path / "tiny.gguf", tmp_path / "base")
    network, made = both(tmp_path / "base")
    for name, expected in rows.items():
        found = network.get_parameter(f"model.layers.0.self_attn.{name}.weight").detach().numpy()
        np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert (network.config.rope.theta, network.config.rms_eps, network.config.tied) == (10_000.0, 1e-5, True)
    assert made.encode(SOURCE).ids == WHOLE.encode(SOURCE).ids


def test_a_gguf_of_another_architecture_is_refused_with_one_line(tmp_path: Path) -> None:
    write_gguf(tmp_path / "other.gguf", "mamba")
    with pytest.raises(CheckpointError, match="architecture `mamba` is not llama"):
        convert(tmp_path / "other.gguf", tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"tensor `blk.0.ssm_a.weight` is not one of a llama network"):
        hugging_face_name("blk.0.ssm_a.weight")
