"""What the engine asks of a network, whichever family it is and whichever code computes it.

`Backend` is what every family can: read text from left to right behind a cache, and say what comes next. A network that
denoises canvases is a `CanvasBackend`, too. Nothing above this folder asks which backend it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas
from midspan.engine.denoise import Denoiser
from midspan.engine.next_token import NextToken


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a loaded backend is: `kernels` names the code that computes each part of the network.

    Products run on `threads`; with `own_threads` these are not torch's.
    """

    device: str
    dtype: str
    threads: int
    parameters: int
    kernels: tuple[tuple[str, str], ...]
    own_threads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchMask:
    """Which cached keys N new tokens see, each the end of a text of its own, all at position `place`.

    `sees` [N, K + N] is boolean, over the K cached keys and the N new ones; `places` [K + N] are their positions.
    """

    place: int
    sees: torch.Tensor
    places: torch.Tensor

    def within(self, window: int | None) -> torch.Tensor:
        """The same for a layer whose tokens see `window` positions, themselves included; None sees all."""
        return self.sees if window is None else self.sees & (self.place - self.places < window)


class Backend(Protocol):
    """A network that reads text from left to right. Tensors are on `device`; not for two threads at once."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def device(self) -> torch.device:
        """Where ids are expected and hidden rows come out."""

    def new_cache(self, expected: int = 512) -> Cache:
        """An empty cache that grows; so many tokens are expected in it."""

    def prefill(self, ids: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Encode clean ids [1, N] causally behind the cache and write them into it. Returns hidden [1, N, d]."""

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """Read texts behind the cache, each by itself from left to right, adding nothing to it.

        Returns hidden rows [M, d] and, text after text, which of them each id has [R]; equal beginnings may share rows.
        """

    def branch(self, ids: torch.Tensor, mask: BranchMask, cache: Cache) -> torch.Tensor:
        """Read ids [1, N], each the end of a text of its own, and write them into the cache. Returns hidden [1, N, d].

        Tokens of all texts stand side by side behind their common prefix.
        """

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden rows [..., d] -> logits [..., V] in float32."""

    def log_probabilities(self, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Of the ids `wanted` [R] after `rows` [R] of hidden [M, d], in nats [R]."""

    def next_token(self, hidden: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> NextToken:
        """What may come after hidden rows [R, d]; see next_token.next_token."""

    def describe(self) -> Description:
        """What was chosen at load, for the log, `midspan doctor` and `About`."""

    def warm(self, run: Callable[[], object]) -> None:
        """Compile and capture at load what `run` needs, so that no request waits for it; may have nothing to do."""

    def release(self) -> None:
        """Let go of all memory but the weights'."""


class CanvasBackend(Backend, Protocol):
    """A network that denoises canvases, too."""

    @property
    def canvas_length(self) -> int:
        """The widest canvas that the network was trained on."""

    def bind(self, cache: Cache, canvas: Canvas) -> Denoiser:
        """Canvases [B, C] behind the cache's text, ready to be denoised; one binding of a cache is used at a time."""
