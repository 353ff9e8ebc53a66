"""A cache language model: what followed the same tokens in the text around a gap, and in lines of other files.

Code repeats its own names far more often than a model of a whole language can know (Tu, Su & Devanbu 2014, "On the
localness of software"). A text is searched for the last tokens of what is written so far: what stood behind the longest
such match, and behind the last token alone, are two more opinions on the next token, mixed with the network's own. How
much each weighs, by how sure it looks, is `recall` of `midspan.json` (training/recall.py fits it).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from midspan.engine.settings import Recall

Ids = npt.NDArray[np.int64]
# Matches are told apart up to so many tokens; a longer one says no more.
LONGEST = 8
LEAST = 1e-9
# An id that no text has.
NOWHERE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What followed a match of `order` tokens: distinct ids [n], and how often each did."""

    order: int
    ids: Ids
    counts: Ids

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Of each id among all that followed."""
        shares: npt.NDArray[np.float64] = self.counts / self.counts.sum()
        return shares

    def signs(self, sure: float) -> tuple[float, ...]:
        """What speaks for it, where the network is `sure` (its greatest probability) of its own."""
        count, most = int(self.counts.sum()), int(self.counts.max())
        seen, sure = math.log(count), max(LEAST, sure)
        return (1.0, float(self.order), seen, most / count, math.log(sure), sure, seen if most == count else 0.0)


class Recalled:
    """The texts that are searched, for one gap; not for two threads at once.

    `before` are the ids up to the gap, maybe none, `others` what stands elsewhere: behind the gap, in other files.
    """

    def __init__(self, before: Sequence[int], others: Iterable[Sequence[int]], vocab_size: int) -> None:
        # Behind each text stands an id that is none: nothing matches it, and it means nothing.
        self._none = vocab_size
        ids = [self._none, *before]
        for text in others:
            ids += [self._none, *text]
        self._ids: Ids = np.array([*ids, self._none], np.int64)
        self._order = np.argsort(self._ids, kind="stable")
        self._sorted = self._ids[self._order]
        matched = np.zeros(len(self._ids), np.int64)
        for token in before[-LONGEST:]:
            matched = self._advanced(matched, token)
        self._matched: dict[tuple[int, ...], Ids] = {(): matched}
        self._last = before[-1] if before else NOWHERE

    def after(self, gap: tuple[int, ...], meaning: Ids) -> tuple[Opinion, ...]:
        """On the id behind the first ids of a gap: of the longest match, and of the last token.

        `meaning` is `meant`'s. One opinion where no match is longer than the last token, none where nothing is.
        """
        places = self._places(gap[-1] if gap else self._last)
        follow = meaning[self._ids[places + 1]]
        there = follow != NOWHERE
        follow, orders = follow[there], self._matches(gap)[places[there]]
        if not len(follow):
            return ()
        longest = int(orders.max())
        best = _opinion(longest, follow[orders == longest])
        return (best,) if longest == 1 else (best, _opinion(1, follow))

    def _matches(self, gap: tuple[int, ...]) -> Ids:
        """At every place, how many of the last ids before it, itself included, are those of the gap's beginning."""
        if gap not in self._matched:
            self._matched[gap] = self._advanced(self._matches(gap[:-1]), gap[-1])
        return self._matched[gap]

    def _advanced(self, matched: Ids, token: int) -> Ids:
        out, places = np.zeros_like(matched), self._places(token)
        out[places] = np.minimum(matched[places - 1] + 1, LONGEST)
        return out

    def _places(self, token: int) -> Ids:
        """Where a token stands."""
        first, end = np.searchsorted(self._sorted, (token, token + 1))
        return self._order[first:end]


def _opinion(order: int, follow: Ids) -> Opinion:
    if len(follow) == 1:
        return Opinion(order=order, ids=follow, counts=np.ones(1, np.int64))
    ids, counts = np.unique(follow, return_counts=True)
    return Opinion(order=order, ids=ids, counts=counts)


def meant(allowed: torch.Tensor, stops: torch.Tensor) -> Ids:
    """What each id, and what stands behind a text, means [V + 1]: itself, NOWHERE if not allowed, of stops the first.

    `stops` [V] end the gap, each as well as another: whichever of them followed, the end did.
    """
    out = torch.arange(len(allowed))
    out[stops.cpu()] = int(stops.int().argmax())
    return torch.cat((out.masked_fill_(~allowed.cpu(), NOWHERE), torch.tensor([NOWHERE]))).numpy()


def weights(opinions: Sequence[Opinion], sure: float, recall: Recall) -> list[float]:
    """The network's weight, then that of each opinion; together 1."""
    standings = [0.0]
    for opinion, signs in zip(opinions, (recall.longest, recall.last), strict=False):
        standings.append(sum(weight * sign for weight, sign in zip(signs, opinion.signs(sure), strict=True)))
    most = max(standings)
    exponentials = [math.exp(standing - most) for standing in standings]
    return [one / sum(exponentials) for one in exponentials]


def mixed(
    values: torch.Tensor, gaps: Sequence[tuple[int, ...]], stops: torch.Tensor, recalled: Recalled, recall: Recall
) -> torch.Tensor:
    """Log-probabilities [R, V] behind the first ids of gaps [R], mixed with what is recalled, in place.

    What is ruled out has -inf, in all rows alike, and keeps it; `stops` [V] end the gap.
    """
    meaning = meant(values[0] > -torch.inf, stops)
    end = values.masked_fill(~stops, -torch.inf).logsumexp(dim=-1)
    sure = torch.maximum(values.masked_fill(stops, -torch.inf).amax(dim=-1), end).exp().tolist()
    opinions = [recalled.after(gap, meaning) for gap in gaps]
    shares = [weights(said, one, recall) for said, one in zip(opinions, sure, strict=True)]
    values += torch.tensor([own for own, *_ in shares], device=values.device).clamp(min=LEAST).log()[:, None]
    for column in range(2):
        rows = [row for row, said in enumerate(opinions) if len(said) > column]
        if rows:
            said = [opinions[row][column] for row in rows]
            ids = torch.from_numpy(np.concatenate([one.ids for one in said]))
            parts = np.concatenate([shares[row][column + 1] * one.shares for row, one in zip(rows, said, strict=True)])
            more = torch.from_numpy(parts).to(values).clamp_(min=LEAST).log_()
            at = torch.tensor(rows).repeat_interleave(torch.tensor([len(one.ids) for one in said]))
            values[at, ids] = torch.logaddexp(values[at, ids], more)
    return values
