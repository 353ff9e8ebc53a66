"""The next token's distribution: the ids that may continue a text, and those that may end it."""

from __future__ import annotations

from typing import NamedTuple

import torch


class NextToken(NamedTuple):
    """The next token after R rows: one distribution over ids that continue and ids that end; others are ruled out.

    `ids` [R, W] are the W likeliest that continue, best first, `values` [R, W] their log-probabilities (-inf if there
    are fewer). `ends` [R] is the log-probability of all ends together. `log_sum` [R] is the log-sum-exp of `logits`
    [R, V] over both, so that any allowed id's log-probability is its logit minus this.
    """

    values: torch.Tensor
    ids: torch.Tensor
    ends: torch.Tensor
    log_sum: torch.Tensor
    logits: torch.Tensor


def next_token(logits: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> NextToken:
    """From logits [R, V]; `inner` [V] are the ids that may continue, `stops` [V] those that may end, `width` is W."""
    going_on = logits.masked_fill(~inner, -torch.inf)
    ends = logits[:, stops].logsumexp(dim=-1)
    log_sum = torch.logaddexp(going_on.logsumexp(dim=-1), ends)
    best = going_on.topk(min(width, logits.shape[-1]))
    return NextToken(best.values - log_sum[:, None], best.indices, ends - log_sum, log_sum, logits)
