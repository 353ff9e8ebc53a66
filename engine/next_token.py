"""What may follow a text, and what may end it, out of the vocabulary's logits."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Following(NamedTuple):
    """The next token after R rows: one distribution over ids that go on and ids that end, nothing else comes.

    Of those that go on the W likeliest, best first: log-probabilities `values` and `ids` [R, W], of -inf where there
    are fewer; of all that end together `ends` [R]. `whole` [R] is the log of the sum of e^x over `logits` [R, V] of
    both, so that another id's log-probability is its logit less this.
    """

    values: torch.Tensor
    ids: torch.Tensor
    ends: torch.Tensor
    whole: torch.Tensor
    logits: torch.Tensor


def following(logits: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> Following:
    """Of logits [R, V], where ids may go on (`inner`, boolean [V]) or end (`stops`, others); `width` is W."""
    going_on = logits.masked_fill(~inner, -torch.inf)
    ends = logits[:, stops].logsumexp(dim=-1)
    whole = torch.logaddexp(going_on.logsumexp(dim=-1), ends)
    best = going_on.topk(min(width, logits.shape[-1]))
    return Following(best.values - whole[:, None], best.indices, ends - whole, whole, logits)
