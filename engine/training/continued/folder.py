"""Checkpoint folders of the llama family as training opens them, and the tokenizer that lies in them."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from midspan.engine.llama import Llama, LlamaConfig
from midspan.engine.weights.load import read_config
from midspan.engine.weights.load_llama import load_llama


def byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]], special: list[str]) -> Tokenizer:
    """A tokenizer with SmolLM's splits over this vocabulary."""
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return made


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Llama, Tokenizer]:
    """Network and tokenizer of a checkpoint folder, packaged or not. Raises CheckpointError for another family."""
    config = LlamaConfig.from_json(read_config(folder), str(folder / "config.json"))
    network = load_llama(folder, config, dtype, torch.device("cpu"))
    return network, Tokenizer.from_file(str(folder / "tokenizer.json"))
