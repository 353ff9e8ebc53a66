"""Fill-in-the-middle: a gap read, or written by a beam search, from left to right behind its suffix and prefix.

The prompt holds suffix and prefix as the checkpoint's prompt rules lay them out, and the gap follows until its end.
What typing changes comes last, so that the cached text is only lengthened. A beam search finds the likeliest fills,
where sampling would find any. The twin (autoregressive.py) and the `llama` family (left_to_right.py) have nothing else;
a checkpoint with `beams` ranks them beside its canvases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Protocol, Self

import torch

from midspan.engine.api import GapKind
from midspan.engine.backends.backend import Backend, BranchMask
from midspan.engine.cache import Cache
from midspan.engine.next_token import NextToken
from midspan.engine.prefix_cache import CHUNK_TOKENS, PrefixCache
from midspan.engine.prompts.prompt import Layout, Lettered

# Log-probabilities (nats) are clipped here, so that one forbidden token does not drown the others.
LOWEST = -30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which ids may be written: boolean [V] `first` at the start and `inner` after it; `stops` end the gap.

    Those of `closers` are written and end it, such as a bracket and a line end that are one token.
    """

    first: torch.Tensor
    inner: torch.Tensor
    stops: torch.Tensor
    closers: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """A beam: its ids, their log-probabilities in nats, and that of the end behind them once it has ended."""

    ids: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    end: float | None = None

    @property
    def log_probability(self) -> float:
        """Of the ids and, once it has ended, the end; in nats."""
        return sum(self.values) + (self.end or 0.0)


class FimPrompt(Lettered, Protocol):
    """What fill-in-the-middle needs of a checkpoint's prompt rules."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def unwritten(self) -> tuple[int, ...]:
        """The ids that no gap holds."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Those of them that end a gap."""

    @property
    def many_lines(self) -> tuple[GapKind, ...]:
        """The kinds of gap that may have several lines."""

    def cell_text(self, token: int) -> str:
        """The text of one token."""

    def allowed_first(self, heal: str) -> torch.Tensor | None:
        """Boolean [V]: tokens whose text begins with `heal`; None if no text was healed."""

    def fim_ids(self, layout: Layout) -> list[int]:
        """The prompt of a layout, behind which its gap is read."""


class FillInTheMiddle:
    """A backend and its prompt rules, read causally behind a cached prompt; not for two threads at once."""

    def __init__(self, backend: Backend, prompt: FimPrompt, chunk: int = CHUNK_TOKENS) -> None:
        """The prompt is read `chunk` tokens at a time."""
        self.backend, self.prompt, self._chunk = backend, prompt, chunk
        texts = [prompt.cell_text(token) for token in range(prompt.vocab_size)]
        self._line_ends = torch.tensor([text.count("\n") for text in texts])
        self._closers = torch.tensor(["\n" in text and bool(text.partition("\n")[0].strip()) for text in texts])

    @cached_property
    def prefix(self) -> PrefixCache:
        """The cache of the prompt."""
        return PrefixCache(self.backend, chunk=self._chunk)

    def reset(self) -> None:
        """Drop the prompt's cache, as after a failure in the middle of a fill; the next fill makes a new one."""
        self.__dict__.pop("prefix", None)

    def rules(self, layout: Layout, kind: GapKind) -> Rules:
        """The ids that token healing and the kind of gap allow, and those that end it.

        A gap has at least one token, as in training.
        """
        stops = torch.zeros(self.prompt.vocab_size, dtype=torch.bool)
        stops[list(self.prompt.end_ids)] = True
        legal = torch.ones_like(stops)
        legal[list(self.prompt.unwritten)] = False
        allowed = self.prompt.allowed_first(layout.heal)
        first = legal if allowed is None else legal & allowed
        closers = torch.zeros_like(stops)
        if kind not in self.prompt.many_lines:
            closers = legal & self._closers
            stops |= (self._line_ends > 0) & ~closers
            # The healed text may itself hold line ends; one more would begin a second line.
            one_line = first & ((self._line_ends == layout.heal.count("\n")) | closers)
            first = one_line if bool(one_line.any()) else first
        device = self.backend.device
        return Rules(
            first=first.to(device),
            inner=(legal & ~stops).to(device),
            stops=stops.to(device),
            closers=closers.to(device),
        )

    def gap(self, layout: Layout, kind: GapKind) -> FimGap:
        """A gap behind its layout's prompt, which `prefix` has encoded before."""
        return FimGap(self, layout, self.rules(layout, kind))

    def beam_cache(self) -> BeamCache:
        """The keys and values of beams behind that prompt."""
        return BeamCache(self.backend, self.prefix.memory)


class SearchCache(Protocol):
    """The keys and values of a search's beams."""

    def next_token(self, parents: list[int], ids: list[int], ask: Callable[[torch.Tensor], NextToken]) -> NextToken:
        """Append one id to each parent (a row of the last call; 0 at first); what `ask` says of their hidden rows."""


class BeamCache:
    """Keys and values of beams that grow side by side behind one cached prefix.

    Each token is stored once; a mask says which beams it belongs to. The cache's length includes the beams. The context
    manager removes them from the cache at its end.
    """

    def __init__(self, backend: Backend, memory: Cache) -> None:
        self._backend, self._memory, self._prefix = backend, memory, memory.length
        self._sees = torch.ones(1, memory.length, dtype=torch.bool, device=backend.device)
        self._places = torch.arange(memory.length, device=backend.device)
        self._depth = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._memory.truncate(self._prefix)

    def next_token(self, parents: list[int], ids: list[int], ask: Callable[[torch.Tensor], NextToken]) -> NextToken:
        """See SearchCache."""
        return ask(self.grow(parents, ids))

    def grow(self, parents: list[int], ids: list[int]) -> torch.Tensor:
        """Append one id to each parent (a row of the last call; 0 at first). Returns hidden rows [len(ids), d]."""
        backend, rows = self._backend, len(ids)
        own = torch.eye(rows, dtype=torch.bool, device=backend.device)
        self._sees = torch.cat((self._sees[parents], own), dim=1)
        place = self._prefix + self._depth
        self._places = torch.cat((self._places, torch.full((rows,), place, device=backend.device)))
        mask = BranchMask(place=place, sees=self._sees, places=self._places)
        hidden = backend.branch(torch.tensor([ids], device=backend.device), mask, self._memory)
        self._depth += 1
        return hidden[0]


class FimGap:
    """One gap, written or read by fill-in-the-middle; boolean `ends` [V] are the ids behind which nothing follows."""

    def __init__(self, fim: FillInTheMiddle, layout: Layout, rules: Rules) -> None:
        self._fim, self._layout, self._rules = fim, layout, rules
        self.ends = rules.stops | rules.closers
        self._closers = frozenset(rules.closers.nonzero()[:, 0].tolist())

    def steps(self, cache: SearchCache, width: int, limit: int) -> Iterator[tuple[list[Beam], list[Beam]]]:
        """One token per step: the `width` likeliest beams that go on, and the likeliest that have ended; best first.

        A beam that would insert nothing, such as one that only repeats the healed text, cannot end.
        """
        rules, closers = self._rules, self._closers
        read = self._first_token(width)
        # One distribution over continuing and ending; all ways to end count as one.
        ask = partial(self._fim.backend.next_token, inner=rules.inner, stops=rules.stops, width=width)
        beams, ended = [Beam()], list[Beam]()
        for _ in range(limit):
            parents, wider = _widen(beams, read, width)
            closed = [replace(beam, end=0.0) for beam in wider if beam.ids[-1] in closers]
            open_rows = [row for row, beam in enumerate(wider) if beam.ids[-1] not in closers]
            beams = [wider[row] for row in open_rows]
            if beams:
                read = cache.next_token([parents[row] for row in open_rows], [beam.ids[-1] for beam in beams], ask)
                closed += [replace(beam, end=end) for beam, end in zip(beams, read.ends.tolist(), strict=True)]
            closed = [beam for beam in closed if self._inserts(beam)]
            ended = sorted([*ended, *closed], key=lambda beam: beam.log_probability, reverse=True)[:width]
            yield beams, ended
            if not beams:
                return

    def read(self, gaps: list[tuple[int, ...]]) -> list[Beam]:
        """The beams that given gaps of at least one token would have been; no log-probability is below LOWEST."""
        if not gaps:
            return []
        rules, backend, lengths = self._rules, self._fim.backend, [len(gap) for gap in gaps]
        hidden, rows = backend.score(gaps, self._fim.prefix.memory)
        read, first = backend.next_token(hidden, rules.inner, rules.stops, 1), self._first_token(1)
        begins = (first.logits[0] - first.log_sum).where(rules.first, -torch.inf)[[gap[0] for gap in gaps]]
        # The id after each id, if it is allowed; nothing is read after the last.
        after = torch.tensor([token for gap in gaps for token in (*gap[1:], 0)], device=backend.device)
        may = rules.inner[after] | rules.stops[after]
        inner = (read.logits[rows, after] - read.log_sum[rows]).where(may, -torch.inf).clamp(min=LOWEST).split(lengths)
        last = rows[torch.tensor(lengths, device=backend.device).cumsum(dim=0) - 1]
        ends = read.ends[last].clamp(min=LOWEST).tolist()
        return [
            Beam(ids=gap, values=(begin, *values[:-1].tolist()), end=end)
            for gap, begin, values, end in zip(gaps, begins.clamp(min=LOWEST).tolist(), inner, ends, strict=True)
        ]

    def _inserts(self, beam: Beam) -> bool:
        return bool(self._fim.prompt.text(list(beam.ids), self._layout).strip())

    def _first_token(self, width: int) -> NextToken:
        """The distribution of a gap's first token; a gap cannot end before it."""
        fim, rules = self._fim, self._rules
        return fim.backend.next_token(fim.prefix.last_hidden[None], rules.first, torch.zeros_like(rules.stops), width)


def is_settled(beams: list[Beam], ended: list[Beam], wanted: int) -> bool:
    """Whether the best `wanted` are final: a beam only loses probability as it grows."""
    return not beams or (len(ended) >= wanted and ended[wanted - 1].log_probability >= beams[0].log_probability)


def is_below(beams: list[Beam], ended: list[Beam], floor: float) -> bool:
    """Whether no beam reaches `floor` nats or will: a beam only loses probability as it grows."""
    return all(best.log_probability < floor for best in (*beams[:1], *ended[:1]))


def _widen(beams: list[Beam], read: NextToken, width: int) -> tuple[list[int], list[Beam]]:
    """The `width` likeliest ways to lengthen beams by their next token: parent rows, and the new beams."""
    longer = [
        (beam.log_probability + value, parent, token, value)
        for parent, (beam, values, ids) in enumerate(zip(beams, read.values.tolist(), read.ids.tolist(), strict=True))
        for value, token in zip(values, ids, strict=True)
        if value > -math.inf
    ]
    best = sorted(longer, key=lambda one: -one[0])[:width]
    new = [Beam(ids=(*beams[p].ids, t), values=(*beams[p].values, value)) for _, p, t, value in best]
    return [p for _, p, _, _ in best], new
