"""Fill-in-the-middle training: rows of documents and their loss.

A document is `<bos> suffix <filler> prefix middle <eos>` (suffix-prefix-middle order, Bavarian et al. 2022,
arXiv:2207.14255). In this order typing lengthens the text that a cache holds and changes nothing before it. A row holds
as many documents as fit; none of them sees another, as at inference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from midspan.engine.model import DiffusionGemma
from midspan.engine.prompts.prompt import EOS_ID, SUFFIX_TOKENS
from midspan.engine.training.gaps import SHORTEST_PREFIX, GapSampler
from midspan.kernels.attention import attention_reference

LONGEST_MIDDLE = 32
# People mostly leave gaps with a long suffix; a short one occurs at the end of a file.
WHOLE_SUFFIX_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FimBatch:
    """Rows of documents that follow each other without padding."""

    ids: torch.Tensor  # [B, N]
    place: torch.Tensor  # [B, N] the position of each id within its document; 0 at its <bos>
    middle: torch.Tensor  # [B, N] boolean: the ids that the gap held, and the <eos> behind them

    def to(self, device: torch.device) -> FimBatch:
        """The same batch on `device`."""
        names = ("ids", "place", "middle")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """One gap of the stream: where its prefix begins, the gap, and the end of its suffix."""

    prefix: int
    begin: int
    end: int
    suffix: int


class FimSampler(GapSampler):
    """Draws rows of fill-in-the-middle documents too; their gaps are cut as those of canvases."""

    def documents(self, batch: int, tokens: int) -> FimBatch:
        """Rows [batch, tokens] without padding."""
        ids = np.empty((batch, tokens), dtype=np.int64)
        place, middle = np.empty_like(ids), np.zeros(ids.shape, dtype=bool)
        for row in range(batch):
            at = 0
            while at < tokens:
                document, answer = self._document(tokens, tokens - at)
                end = at + len(document)
                ids[row, at:end], place[row, at:end] = document, np.arange(len(document))
                middle[row, at + answer : end] = True
                at = end
        return FimBatch(ids=torch.from_numpy(ids), place=torch.from_numpy(place), middle=torch.from_numpy(middle))

    def _document(self, tokens: int, room: int) -> tuple[npt.NDArray[np.int64], int]:
        """One document of at most `room` ids, and where its middle begins.

        Where the rest of the row would be too short for another document, the prefix is longer and fills it.
        """
        longest, suffix_tokens = min(LONGEST_MIDDLE, tokens // 4), min(SUFFIX_TOKENS, tokens // 4)
        shortest = 3 + SHORTEST_PREFIX + longest
        parts = self._parts(tokens - 3 - longest - suffix_tokens, longest, suffix_tokens, shortest)
        kept = min(parts.suffix - parts.end, room - 3 - SHORTEST_PREFIX - (parts.end - parts.begin))
        around = 3 + parts.end - parts.begin + kept
        length = around + parts.begin - parts.prefix
        if room - length < shortest:
            length = room
        start = parts.begin - (length - around)
        text = self.ids
        prefix, gap, suffix = text[start : parts.begin], text[parts.begin : parts.end], text[parts.end :][:kept]
        bos, filler, eos = ([i] for i in (self.recipe.bos_id, self.recipe.filler_id, EOS_ID))
        document = np.concatenate((bos, suffix, filler, prefix, gap, eos)).astype(np.int64)
        return document, length - 1 - len(gap)

    def _parts(self, prefix_tokens: int, longest: int, suffix_tokens: int, spare: int) -> _Parts:
        """A gap within one file, its prefix and its suffix, with at least `spare` ids of the stream before it."""
        several = int(self.random.choice(self.recipe.widths)) > min(self.recipe.widths)
        size = prefix_tokens + longest + suffix_tokens
        while True:
            first = max(self.begin(size), spare)
            text = self.ids[first : first + size]
            begin, end = self.gap(np.flatnonzero(self.newline[text]), prefix_tokens, longest, several=several)
            ends = np.flatnonzero((text == self.recipe.bos_id) | (text == EOS_ID))
            # At the edge of a file there is nothing to fill.
            if begin not in ends and begin < len(text):
                break
        prefix = int(max(ends[ends < begin], default=-1)) + 1
        last = int(min(ends[ends > begin], default=len(text)))
        end = min(end, last)
        wanted = suffix_tokens
        if self.random.random() >= WHOLE_SUFFIX_SHARE:
            wanted = int(self.random.integers(0, suffix_tokens + 1))
        # The file's own <eos> ends its suffix, as the prompt's does.
        suffix = min(end + wanted, last + 1, len(text))
        return _Parts(prefix=first + prefix, begin=first + begin, end=first + end, suffix=first + suffix)


def fim_loss(model: DiffusionGemma, batch: FimBatch, middle_weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean next-token loss of a batch with N + 1 columns, its middles weighted, and that of the middles alone.

    Both are in nats. A document's first id is not predicted.
    """
    ids, place = batch.ids[:, :-1], batch.place[:, :-1]
    document = (place == 0).cumsum(dim=1)
    index = torch.arange(ids.shape[1], device=ids.device)
    mask = ((document[:, :, None] == document[:, None]) & (index[:, None] >= index))[:, None]

    def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return attention_reference(q, k, v, mask)

    hidden = model.run(model.embed(ids), place, model.scalars(encoder=True), attend)
    losses = F.cross_entropy(model.logits(hidden).flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    middle = batch.middle[:, 1:].flatten().float()
    weight = (1.0 + (middle_weight - 1.0) * middle) * (batch.place[:, 1:].flatten() != 0)
    return (losses * weight).sum() / weight.sum(), (losses * middle).sum() / middle.sum()
