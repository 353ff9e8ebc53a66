"""Batches of fill-in-the-middle rows with a fixed number of learnt positions."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from midspan.engine.training.continued.recipes import Recipe
from midspan.engine.training.continued.rows import Row, RowBuilder
from midspan.engine.training.continued.texts import Corpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows side by side, and which of their flat places are learnt.

    A place is where a token is read; the token behind it is its target. The number of places is the same in every
    batch, since a head over a varying number makes the process grow.
    """

    ids: Tensor  # [B, N]
    places: Tensor  # [K] flat indices into ids
    targets: Tensor  # [K]
    weights: Tensor  # [K] 1 in gaps, less outside, 0 for padding
    language: Tensor  # [K] index into the corpus's languages
    bytes: dict[int, int]  # by language: bytes of the gaps


def make_batch(builder: RowBuilder, corpus: Corpus, recipe: Recipe, chance: random.Random) -> Batch:
    """One batch of about `recipe.batch_tokens` tokens."""
    length = builder.recipe.tokens
    ids = torch.full((recipe.batch_tokens // length, length), builder.end)
    gaps: list[tuple[int, int, int]] = []
    texts: list[tuple[int, int, int]] = []
    sizes: dict[int, int] = {}
    for place in range(len(ids)):
        begin = place * length
        for row in builder.full(corpus, chance):
            language = corpus.languages.index(row.language)
            sizes[language] = sizes.get(language, 0) + len(row.middle.encode())
            _write(ids.view(-1), begin, row)
            gaps += ((begin + i - 1, row.ids[i], language) for i in range(row.gap, len(row.ids)))
            texts += ((begin + i - 1, row.ids[i], language) for i in row.text)
            begin += len(row.ids)
    chosen = gaps[: recipe.positions]
    more = chance.sample(texts, min(len(texts), recipe.positions - len(chosen)))
    weights = [1.0] * len(chosen) + [recipe.text_weight] * len(more)
    padding = recipe.positions - len(weights)
    places, targets, languages = zip(*chosen, *more, *[(0, 0, 0)] * padding, strict=True)
    return Batch(
        ids=ids,
        places=torch.tensor(places),
        targets=torch.tensor(targets),
        weights=torch.tensor(weights + [0.0] * padding),
        language=torch.tensor(languages),
        bytes=sizes,
    )


def _write(flat: Tensor, begin: int, row: Row) -> None:
    flat[begin : begin + len(row.ids)] = torch.tensor(row.ids)
