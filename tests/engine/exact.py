"""Exact results of a denoise step and of a next-token distribution, with bounds for kernels and plain torch."""

from __future__ import annotations

import torch

from tests.near import Near, entropy_of, gamma, log_sum_of, near, softmax, weights_of

# The CPU's own kernels leave out weights below half of float32's last bit of one.
PASSED_OVER = 6e-8


class Step:
    """Entropies, samples and expected embeddings from logits [R, V], of which `seen` are allowed, with bounds."""

    def __init__(self, logits: torch.Tensor, seen: torch.Tensor, temperature: float, embeddings: torch.Tensor) -> None:
        # The kernels multiply by the inverse of the temperature, one rounding more than plain torch.
        self.scores = near(logits) * (near(1.0) / temperature)
        self.seen, self.shares = seen, softmax(self.scores, seen)
        self.masked = Near(self.scores.value.masked_fill(~seen, -torch.inf), self.scores.error)
        self.embeddings = embeddings

    def entropy(self) -> Near:
        """The kernels' entropy, from sums of weights relative to the top."""
        return entropy_of(weights_of(self.scores, self.seen), self.scores, self.seen)

    def plain_entropy(self) -> Near:
        """Plain torch's entropy: log-sum-exp less the expected logit, each as large as the logits."""
        top = self.masked.value.argmax(dim=-1)
        rows = torch.arange(len(top))
        scores = Near(self.scores.value.where(self.seen, 0.0), self.scores.error.where(self.seen, 0.0))
        return scores[rows, top] - self.shares[rows, top].log() - (self.shares * scores).sum()

    def check_sample(self, ids: torch.Tensor, places: torch.Tensor) -> None:
        """Each place [R] may lie within its id's part of the cumulative distribution, and the id is allowed."""
        value, error = self.shares.value.cumsum(dim=-1), self.shares.error.cumsum(dim=-1)
        edges = Near(value, error + gamma(value.shape[-1]) * (value + error))
        # The place is multiplied by the sum of all weights, which has the error of the last edge.
        place = near(places) * Near(torch.ones_like(value[:, -1]), edges.error[:, -1])
        rows = torch.arange(len(ids))
        end, begin = edges[rows, ids], edges[rows, (ids - 1).clamp(min=0)]
        assert self.seen[rows, ids].all()
        assert (end.value + end.error >= place.value - place.error).all()
        assert ((begin.value - begin.error <= place.value + place.error) | (ids == 0)).all()

    def expected(self) -> Near:
        """Expected embeddings; weights below PASSED_OVER may be left out."""
        mixed = self.shares.dot(self.embeddings.mT)
        return Near(mixed.value, mixed.error + PASSED_OVER * self.embeddings.abs().sum(dim=0))


def sums(scores: Near, inner: torch.Tensor, stops: torch.Tensor) -> tuple[Near, Near | None]:
    """Log-sum-exp over both kinds of ids, and over stops if there are any, relative to the top of all ids."""
    weights, top = weights_of(scores), scores.value.amax(dim=-1)
    ending = weights[:, stops].sum()
    whole = (weights[:, inner].sum() + ending).log() + top
    return whole, ending.log() + top if stops.any() else None


def plain_sums(scores: Near, inner: torch.Tensor, stops: torch.Tensor) -> tuple[Near, Near | None]:
    """The same relative to the top of each kind, combined as logaddexp does: the larger plus log(1 + e^-apart)."""
    going_on = log_sum_of(scores[:, inner])
    if not stops.any():
        return going_on, None
    ends = log_sum_of(scores[:, stops])
    apart = going_on - ends
    more = torch.maximum(going_on.value, ends.value)
    larger = Near(more, torch.maximum(going_on.error, ends.error))
    return larger + (Near(-apart.value.abs(), apart.error).exp() + 1.0).log(), ends
