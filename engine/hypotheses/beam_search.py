"""Fill-in-the-middle: a gap read, or written by a beam search, from left to right behind its suffix and prefix.

The prompt is `<bos> suffix <filler> prefix`, and the gap follows until `<eos>`. The suffix comes first, so that typing
only lengthens the cached text. A beam search finds the likeliest fills, where sampling would find any. The twin
(autoregressive.py) has nothing else; a checkpoint with `beams` ranks them beside its canvases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch

from midspan.engine.api import GapKind
from midspan.engine.backends.backend import Backend, BranchMask
from midspan.engine.cache import Cache
from midspan.engine.next_token import NextToken
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import EOS_ID, Layout, Prompt

SUFFIX_TOKENS = 64
# Log-probabilities (nats) are clipped here, so that one forbidden token does not drown the others.
LOWEST = -30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which ids may be written: boolean [V] `first` at the start and `inner` after it; `stops` end the gap."""

    first: torch.Tensor
    inner: torch.Tensor
    stops: torch.Tensor


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


class FillInTheMiddle:
    """A backend and its prompt rules, read causally behind a cached prompt; not for two threads at once."""

    def __init__(self, backend: Backend, prompt: Prompt) -> None:
        self.backend, self.prompt = backend, prompt
        self._line_ends = torch.tensor([prompt.cell_text(token).count("\n") for token in range(prompt.vocab_size)])

    @cached_property
    def prefix(self) -> PrefixCache:
        """The cache of the prompt."""
        return PrefixCache(self.backend)

    def reset(self) -> None:
        """Drop the prompt's cache, as after a failure in the middle of a fill; the next fill makes a new one."""
        self.__dict__.pop("prefix", None)

    def encode(self, layout: Layout) -> None:
        """Make the cache hold the prompt of a layout, behind which its FimGap is read."""
        self.prefix.encode(self.prompt_ids(layout))

    def prompt_ids(self, layout: Layout) -> list[int]:
        """The prompt: `<bos> suffix <filler> prefix`."""
        bos, *prefix = layout.prefix
        return [bos, *layout.suffix[:SUFFIX_TOKENS], self.prompt.filler_id, *prefix]

    def rules(self, layout: Layout, kind: GapKind) -> Rules:
        """The ids that token healing and the kind of gap allow, and those that end it.

        A gap has at least one token, as in training.
        """
        stops = torch.zeros(self.prompt.vocab_size, dtype=torch.bool)
        stops[EOS_ID] = True
        legal = torch.ones_like(stops)
        legal[list(self.prompt.special_ids)] = False
        allowed = self.prompt.allowed_first(layout.heal)
        first = legal if allowed is None else legal & allowed
        if kind not in self.prompt.many_lines:
            stops |= self._line_ends > 0
            # The healed text may itself hold line ends; one more would begin a second line.
            one_line = first & (self._line_ends == layout.heal.count("\n"))
            first = one_line if bool(one_line.any()) else first
        device = self.backend.device
        return Rules(first=first.to(device), inner=(legal & ~stops).to(device), stops=stops.to(device))

    def gap(self, layout: Layout, kind: GapKind) -> FimGap:
        """A gap behind the prompt that `encode` has cached."""
        return FimGap(self, layout, self.rules(layout, kind))

    def beam_cache(self) -> BeamCache:
        """The keys and values of beams behind that prompt."""
        return BeamCache(self.backend, self.prefix.memory)


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
    """One gap, written or read by fill-in-the-middle."""

    def __init__(self, fim: FillInTheMiddle, layout: Layout, rules: Rules) -> None:
        self._fim, self._layout, self._rules = fim, layout, rules

    def steps(self, cache: BeamCache, width: int, limit: int) -> Iterator[tuple[list[Beam], list[Beam]]]:
        """One token per step: the `width` likeliest beams that go on, and the likeliest that have ended; best first.

        A beam that would insert nothing, such as one that only repeats the healed text, cannot end.
        """
        rules, prompt, layout = self._rules, self._fim.prompt, self._layout
        read = self._first_token(width)
        beams, ended = [Beam()], list[Beam]()
        for _ in range(limit):
            parents, tokens, beams = _widen(beams, read, width)
            hidden = cache.grow(parents, tokens)
            # One distribution over continuing and ending; all ways to end count as one.
            read = self._fim.backend.next_token(hidden, rules.inner, rules.stops, width)
            closed = [
                Beam(ids=beam.ids, values=beam.values, end=end)
                for beam, end in zip(beams, read.ends.tolist(), strict=True)
                if prompt.text(list(beam.ids), layout).strip()
            ]
            ended = sorted([*ended, *closed], key=lambda beam: beam.log_probability, reverse=True)[:width]
            yield beams, ended

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

    def _first_token(self, width: int) -> NextToken:
        """The distribution of a gap's first token; a gap cannot end before it."""
        fim, rules = self._fim, self._rules
        return fim.backend.next_token(fim.prefix.last_hidden[None], rules.first, torch.zeros_like(rules.stops), width)


def is_settled(beams: list[Beam], ended: list[Beam], wanted: int) -> bool:
    """Whether the best `wanted` are final: a beam only loses probability as it grows."""
    return len(ended) >= wanted and ended[wanted - 1].log_probability >= beams[0].log_probability


def is_below(beams: list[Beam], ended: list[Beam], floor: float) -> bool:
    """Whether no beam reaches `floor` nats or will: a beam only loses probability as it grows."""
    return all(best.log_probability < floor for best in (*beams[:1], *ended[:1]))


def _widen(beams: list[Beam], read: NextToken, width: int) -> tuple[list[int], list[int], list[Beam]]:
    """The `width` likeliest ways to lengthen beams by their next token: parent rows, ids and the new beams."""
    longer = [
        (beam.log_probability + value, parent, token, value)
        for parent, (beam, values, ids) in enumerate(zip(beams, read.values.tolist(), read.ids.tolist(), strict=True))
        for value, token in zip(values, ids, strict=True)
        if value > -math.inf
    ]
    best = sorted(longer, key=lambda one: -one[0])[:width]
    new = [Beam(ids=(*beams[p].ids, t), values=(*beams[p].values, value)) for _, p, t, value in best]
    return [p for _, p, _, _ in best], [t for _, _, t, _ in best], new
