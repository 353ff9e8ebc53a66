"""How well gaps of held-out packages are known: nats a byte, and greedy fills that are right to the letter."""

from __future__ import annotations

import random
from collections.abc import Container
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from midspan.engine.llama import KeyValueCache, Llama
from midspan.engine.training.continued.rows import CHARS_A_TOKEN, Layout, Row, RowBuilder
from midspan.engine.training.continued.spans import Gap, cut
from midspan.engine.training.continued.texts import Corpus, Text

ALL_KINDS = ("rest", "whole", "several", "inside", "random")
LONGEST_CHARS, MOST_STEPS = 120, 48
ROOM = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldoutGap:
    """A gap of a held-out text, and in which layout it is asked for."""

    text: Text
    gap: Gap
    layout: Layout

    def row(self, builder: RowBuilder) -> Row | None:
        """Its row in one tokenizer, or None where healing cannot lead to the gap."""
        suffix = self.text.text[self.gap.end :][: CHARS_A_TOKEN * builder.recipe.suffix_tokens]
        return builder.build(self.text, self.gap, self.layout, suffix)


def heldout_gaps(heldout: Corpus, language: str, count: int, kinds: Container[str] = ALL_KINDS) -> list[HeldoutGap]:
    """Gaps of a language, the same whatever the tokenizer: both orders, the line's beginning behind the middle mark."""
    found, chance = list[HeldoutGap](), random.Random(language)
    while len(found) < count:
        text = heldout.draw(chance, language)
        gap = cut(text.text, chance.randrange(len(text.text)), chance)
        if gap is None or gap.kind not in kinds or gap.end - gap.begin > LONGEST_CHARS:
            continue
        layout = Layout(suffix_first=len(found) % 2 == 0, line_behind=True, room=ROOM)
        found.append(HeldoutGap(text=text, gap=gap, layout=layout))
    return found


def gap_losses(network: Llama, builder: RowBuilder, heldout: Corpus, count: int) -> dict[str, float]:
    """Nats a byte of `count` gaps of each language; the end mark is a byte of each gap."""
    losses = {}
    for language in heldout.languages:
        rows = [gap.row(builder) for gap in heldout_gaps(heldout, language, count)]
        drawn = [row for row in rows if row is not None]
        size = sum(len(row.middle.encode()) + 1 for row in drawn)
        losses[language] = sum(row_nats(network, builder, row) for row in drawn) / size
    return losses


@torch.no_grad()
def row_nats(network: Llama, builder: RowBuilder, row: Row) -> float:
    """Nats of one gap and its end; the first token is weighed among those that begin with the healed text."""
    logits = network.logits(network(torch.tensor([row.ids[:-1]]))[0, row.gap - 1 :]).float()
    logits[0] = healed_logits(logits[0], builder, row.heal)
    return float(F.cross_entropy(logits, torch.tensor(row.ids[row.gap :]), reduction="sum"))


def healed_logits(logits: Tensor, builder: RowBuilder, heal: str) -> Tensor:
    """Logits [V] of a gap's first token: only those that begin with the healed text, and no empty gap."""
    allowed = builder.prompt.allowed_first(heal)
    return logits if allowed is None else logits.masked_fill(~allowed, -torch.inf)


@torch.no_grad()
def greedy(network: Llama, builder: RowBuilder, row: Row, *, one_line: bool) -> str:
    """The likeliest continuation of a row's prompt, token by token, to its end or, where wanted, its line's end."""
    cache = KeyValueCache(network.config, 1, row.gap + MOST_STEPS, network.head.dtype)
    ids, made = row.ids[: row.gap], list[int]()
    for step in range(MOST_STEPS):
        logits = network.logits(network(torch.tensor([ids]), cache)[0, -1]).float()
        token = int((healed_logits(logits, builder, row.heal) if step == 0 else logits).argmax())
        if token == builder.end:
            break
        ids = [token]
        made += ids
        if one_line and "\n" in builder.prompt.cell_text(token):
            break
    text = builder.prompt.decode(made)[len(row.heal) :]
    return text.split("\n")[0] if one_line else text


def exact_matches(network: Llama, builder: RowBuilder, heldout: Corpus, count: int) -> dict[str, dict[str, float]]:
    """By language and kind (ends of lines cut anywhere, whole lines): the share of `count` gaps greedily right."""
    found: dict[str, dict[str, float]] = {}
    for language in heldout.languages:
        for kind in ("rest", "whole"):
            gaps = heldout_gaps(heldout, language, count, (kind,))
            rows = [gap.row(builder) for gap in gaps]
            right = [row is not None and greedy(network, builder, row, one_line=True) == row.middle for row in rows]
            found.setdefault(language, {})[kind] = sum(right) / count
    return found
