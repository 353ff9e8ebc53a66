"""The next token's distribution, out of the vocabulary's logits: what may go on a text, and what may end it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class NextToken(NamedTuple):
    """The next token after R rows: one distribution over ids that go on and ids that end; all others are ruled out.

    Of the ids that go on the W likeliest, best first: log-probabilities `values` and `ids` [R, W], of -inf where there
    are fewer; of all that end together `ends` [R]. `log_sum` [R] is the log of the sum of e^x over `logits` [R, V] of
    both, so that another id's log-probability is its logit less this.
    """

    values: torch.Tensor
    ids: torch.Tensor
    ends: torch.Tensor
    log_sum: torch.Tensor
    logits: torch.Tensor


def next_token(logits: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> NextToken:
    """Of logits [R, V], where ids may go on (`inner`, boolean [V]) or end (`stops`, others); `width` is W."""
    going_on = logits.masked_fill(~inner, -torch.inf)
    ends = logits[:, stops].logsumexp(dim=-1)
    log_sum = torch.logaddexp(going_on.logsumexp(dim=-1), ends)
    best = going_on.topk(min(width, logits.shape[-1]))
    return NextToken(best.values - log_sum[:, None], best.indices, ends - log_sum, log_sum, logits)
