"""The interface between the engine and a network, for every family and every way to compute it.

Every network is a `Backend`: it reads text causally behind a cache and predicts the next token. A network that also
denoises canvases is a `CanvasBackend`. Nothing outside this folder asks which backend it has.
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
    """A loaded backend: `kernels` names the code that computes each part of the network.

    Matrix products run on `threads` threads; with `own_threads` these are not torch's.
    """

    device: str
    dtype: str
    threads: int
    parameters: int
    kernels: tuple[tuple[str, str], ...]
    own_threads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchMask:
    """Which cached keys are visible to N new tokens, each the end of its own text, all at position `place`.

    `sees` [N, K + N] is boolean, over the K cached keys and the N new ones; `places` [K + N] are their positions.
    """

    place: int
    sees: torch.Tensor
    places: torch.Tensor

    def within(self, window: int | None) -> torch.Tensor:
        """The same for a layer whose tokens see `window` positions, themselves included; None sees all."""
        return self.sees if window is None else self.sees & (self.place - self.places < window)


class Interrupted(Exception):
    """A pass that ended before its time, as `watch` was told; the cache holds what it held before."""


class Backend(Protocol):
    """A network that reads text causally. Tensors are on `device`; not for two threads at once."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def device(self) -> torch.device:
        """Where ids and hidden rows are."""

    def new_cache(self, expected: int = 512) -> Cache:
        """An empty cache, sized for `expected` tokens; it grows."""

    def prefill(self, ids: torch.Tensor, cache: Cache, last: int | None = None) -> torch.Tensor:
        """Encode clean ids [1, N] causally behind the cache and write them into it.

        Returns hidden [1, N, d], or where `last` rows are enough [1, last, d].
        """

    def score(self, texts: Sequence[Sequence[int]], cache: Cache) -> tuple[torch.Tensor, torch.Tensor]:
        """Read texts behind the cache, each by itself from left to right, adding nothing to it.

        Returns hidden rows [M, d] and the row of each id, text after text [R]; equal beginnings may share rows.
        """

    def branch(self, ids: torch.Tensor, mask: BranchMask, cache: Cache) -> torch.Tensor:
        """Read ids [1, N], each the end of its own text, and write them into the cache. Returns hidden [1, N, d].

        The tokens of all texts lie side by side behind their common prefix.
        """

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden rows [..., d] -> logits [..., V] in float32."""

    def log_probabilities(self, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (nats) [R] of ids `wanted` [R] after `rows` [R] of hidden [M, d]."""

    def next_token(self, hidden: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> NextToken:
        """The next token after hidden rows [R, d]; see next_token.next_token."""

    def watch(self, stop: Callable[[], bool]) -> None:
        """From now on: where a pass takes long, `stop` is asked in between, and Interrupted raised if it says so."""

    def describe(self) -> Description:
        """The choice that was made at load, for the log, `midspan doctor` and `About`."""

    def warm(self, run: Callable[[], object]) -> None:
        """Compile and capture, at load, whatever `run` needs; a backend that compiles nothing does nothing."""

    def release(self) -> None:
        """Release all memory but the weights'."""


class CanvasBackend(Backend, Protocol):
    """A network that also denoises canvases."""

    @property
    def canvas_length(self) -> int:
        """The widest canvas that the network was trained on."""

    def bind(self, cache: Cache, canvas: Canvas) -> Denoiser:
        """Bind canvases [B, C] to the cached text, to denoise them; a cache has one binding in use at a time."""
