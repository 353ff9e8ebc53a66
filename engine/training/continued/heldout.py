"""How well gaps of held-out packages are known: nats a byte by language."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from midspan.engine.llama import Llama
from midspan.engine.training.continued.rows import Row, RowBuilder
from midspan.engine.training.continued.texts import Corpus


def heldout_rows(builder: RowBuilder, heldout: Corpus, rows: int) -> dict[str, list[Row]]:
    """`rows` rows of each language, the same every time and, as texts and gaps go, for every tokenizer."""
    found: dict[str, list[Row]] = {}
    for language in heldout.languages:
        chances = (random.Random(f"{language} {place}") for place in range(rows))
        found[language] = [builder.draw(heldout, chance, builder.recipe.tokens, language) for chance in chances]
    return found


@torch.no_grad()
def gap_losses(network: Llama, builder: RowBuilder, heldout: Corpus, rows: int) -> dict[str, float]:
    """Nats a byte of the gaps by language; the end mark is a byte of each gap."""
    return {
        language: sum(row_nats(network, builder, row) for row in drawn)
        / sum(len(row.middle.encode()) + 1 for row in drawn)
        for language, drawn in heldout_rows(builder, heldout, rows).items()
    }


@torch.no_grad()
def row_nats(network: Llama, builder: RowBuilder, row: Row) -> float:
    """Nats of one gap and its end; the first token is weighed among those that begin with the healed text."""
    hidden = network(torch.tensor([row.ids[:-1]]))[0, row.gap - 1 :]
    logits: Tensor = network.logits(hidden).float()
    allowed = builder.prompt.allowed_first(row.heal)
    if allowed is not None:
        logits[0, ~allowed] = -torch.inf
    nats = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[row.gap :]), reduction="sum")
    return float(nats)
