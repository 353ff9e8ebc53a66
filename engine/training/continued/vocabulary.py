"""A byte-level BPE vocabulary trimmed to what source code uses; every text can still be spelt."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from midspan.engine.training.continued.texts import LANGUAGE_SHARES, Corpus

SAMPLE_CHARS = 3_000_000


def byte_level(vocabulary: dict[str, int], merges: list[tuple[str, str]], special: list[str]) -> Tokenizer:
    """A tokenizer with SmolLM's splits over this vocabulary."""
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return made


def counts(tokenizer: Tokenizer, corpus: Corpus, seed: int = 0) -> dict[str, float]:
    """How often each token is used in a sample of every language, weighed as the languages are in training."""
    found: dict[str, float] = defaultdict(float)
    for language in corpus.languages:
        chance, sample, size = random.Random(f"{seed} {language}"), list[str](), 0
        while size < SAMPLE_CHARS:
            text = corpus.draw(chance, language)
            sample.append(f"{text.path}\n{text.text}")
            size += len(sample[-1])
        used = Counter(token for encoding in tokenizer.encode_batch(sample) for token in encoding.tokens)
        for token, times in used.items():
            found[token] += times * LANGUAGE_SHARES[language] / used.total()
    return found


def trim(tokenizer: Tokenizer, used: dict[str, float], size: int) -> tuple[Tokenizer, list[int]]:
    """A tokenizer of about `size` tokens, and the old id of each new one.

    Special tokens and single bytes stay; then come the most used tokens, each with all that it is merged from.
    """
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges = [(first, second) for first, second in model["merges"]]
    parts = {first + second: (first, second) for first, second in merges}
    special = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items()) if token.special]
    kept = set(special) | {token for token in vocabulary if token not in parts}
    for token in sorted(used, key=used.__getitem__, reverse=True):
        if len(kept) >= size:
            break
        missing = [token]
        while missing:
            one = missing.pop()
            if one not in kept:
                kept.add(one)
                missing += parts[one]
    # Merge order is id order in such a vocabulary, and stays so.
    ordered = sorted(kept, key=vocabulary.__getitem__)
    left = [pair for pair in merges if pair[0] + pair[1] in kept and pair[0] in kept and pair[1] in kept]
    made = byte_level({token: place for place, token in enumerate(ordered)}, left, special)
    return made, [vocabulary[token] for token in ordered]
