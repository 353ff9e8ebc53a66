"""A gap read and written from left to right, with the text behind it in front: fill-in-the-middle by a beam search.

The prompt is `<bos> suffix <filler> prefix` (suffix first: typing lengthens the text that the prefix cache holds and
changes nothing before it), the gap follows until `<eos>`. A beam search finds the likeliest fills, where draws would
find any. The twin (autoregressive.py) has nothing else; a checkpoint with `beams` ranks them beside its canvases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from midspan.engine.api import GapKind
from midspan.engine.hypotheses.branches import Branches
from midspan.engine.model import DiffusionGemma
from midspan.engine.next_token import Following
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import EOS_ID, Layout, Prompt

SUFFIX_TOKENS = 64
# Nats that no reading falls below, so that one forbidden token does not drown the others.
LEAST = -30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be written: boolean [V] `first` at the start and `inner` behind it; `stops` are ids that end the gap."""

    first: torch.Tensor
    inner: torch.Tensor
    stops: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """A hypothesis: its ids, their log-probabilities in nats, and that of the end behind them once it has ended."""

    ids: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    end: float | None = None

    @property
    def log_probability(self) -> float:
        """Of the gap and, once it has ended, its end."""
        return sum(self.values) + (self.end or 0.0)


class FillInTheMiddle:
    """A model and its prompt rules, read causally behind a cached prompt; not for two threads at once."""

    def __init__(self, model: DiffusionGemma, prompt: Prompt) -> None:
        self.model, self.prompt = model, prompt
        self._line_ends = torch.tensor([prompt.cell_text(token).count("\n") for token in range(prompt.vocab_size)])

    @cached_property
    def prefix(self) -> PrefixCache:
        """The memory of the prompt."""
        return PrefixCache(self.model)

    def reset(self) -> None:
        """Let go of the prompt's memory, as after a failure halfway through a fill; the next one takes it."""
        self.__dict__.pop("prefix", None)

    def encode(self, layout: Layout) -> None:
        """Make the cache hold the prompt of a layout; both `steps` and `read` go on from it."""
        self.prefix.encode(self.prompt_ids(layout))

    def prompt_ids(self, layout: Layout) -> list[int]:
        """What the gap follows: `<bos> suffix <filler> prefix`."""
        bos, *prefix = layout.prefix
        return [bos, *layout.suffix[:SUFFIX_TOKENS], self.prompt.filler_id, *prefix]

    def rules(self, layout: Layout, kind: GapKind) -> Rules:
        """Token healing, banned ids, where a gap of this kind ends. It holds one token at least, as in training."""
        stops = torch.zeros(self.prompt.vocab_size, dtype=torch.bool)
        stops[EOS_ID] = True
        legal = torch.ones_like(stops)
        legal[list(self.prompt.special_ids)] = False
        allowed = self.prompt.allowed_first(layout.heal)
        first = legal if allowed is None else legal & allowed
        if kind not in self.prompt.many_lines:
            stops |= self._line_ends > 0
            # The healed text may itself hold line ends; another behind it would begin a second line.
            one_line = first & (self._line_ends == layout.heal.count("\n"))
            first = one_line if bool(one_line.any()) else first
        device = self.model.device
        return Rules(first=first.to(device), inner=(legal & ~stops).to(device), stops=stops.to(device))

    def steps(
        self, branches: Branches, layout: Layout, kind: GapKind, width: int, limit: int
    ) -> Iterator[tuple[list[Beam], list[Beam]]]:
        """One token a step: the `width` likeliest beams that go on, and the likeliest that have ended; best first.

        A beam that would insert nothing, such as one that only repeats the healed text, cannot end.
        """
        rules = self.rules(layout, kind)
        read = self._begin(rules, width)
        beams, ended = [Beam()], list[Beam]()
        for _ in range(limit):
            parents, tokens, beams = _widen(beams, read, width)
            hidden = branches.grow(parents, tokens)
            # One distribution over going on and ending; the ways to end count as one.
            read = self.model.following(hidden, rules.inner, rules.stops, width)
            closed = [
                Beam(ids=beam.ids, values=beam.values, end=end)
                for beam, end in zip(beams, read.ends.tolist(), strict=True)
                if self.prompt.text(list(beam.ids), layout).strip()
            ]
            ended = sorted([*ended, *closed], key=lambda beam: beam.log_probability, reverse=True)[:width]
            yield beams, ended

    def read(self, layout: Layout, kind: GapKind, gaps: list[tuple[int, ...]]) -> list[Beam]:
        """Gaps of one token at least that something else has written, as the beams they would have been.

        No token and no end falls below LEAST.
        """
        if not gaps:
            return []
        rules, lengths = self.rules(layout, kind), [len(gap) for gap in gaps]
        hidden, rows = self.model.score(gaps, self.prefix.memory)
        read, first = self.model.following(hidden, rules.inner, rules.stops, 1), self._begin(rules, 1)
        begins = (first.logits[0] - first.whole).where(rules.first, -torch.inf)[[gap[0] for gap in gaps]]
        # What follows each id, where it may; what follows the last is not read.
        after = torch.tensor([token for gap in gaps for token in (*gap[1:], 0)], device=self.model.device)
        may = rules.inner[after] | rules.stops[after]
        inner = (read.logits[rows, after] - read.whole[rows]).where(may, -torch.inf).clamp(min=LEAST).split(lengths)
        last = rows[torch.tensor(lengths, device=self.model.device).cumsum(dim=0) - 1]
        ends = read.ends[last].clamp(min=LEAST).tolist()
        return [
            Beam(ids=gap, values=(begin, *values[:-1].tolist()), end=end)
            for gap, begin, values, end in zip(gaps, begins.clamp(min=LEAST).tolist(), inner, ends, strict=True)
        ]

    def _begin(self, rules: Rules, width: int) -> Following:
        """What a gap may begin with; it does not end before."""
        return self.model.following(self.prefix.last_hidden[None], rules.first, torch.zeros_like(rules.stops), width)


def known(beams: list[Beam], ended: list[Beam], wanted: int) -> bool:
    """Whether the best `wanted` cannot change any more: a beam only loses probability as it grows."""
    return len(ended) >= wanted and ended[wanted - 1].log_probability >= beams[0].log_probability


def faint(beams: list[Beam], ended: list[Beam], floor: float) -> bool:
    """Whether none has so many nats, nor will: a beam only loses probability as it grows."""
    return all(best.log_probability < floor for best in (*beams[:1], *ended[:1]))


def _widen(beams: list[Beam], read: Following, width: int) -> tuple[list[int], list[int], list[Beam]]:
    """The `width` likeliest ways to lengthen beams by a token that follows: parent rows, ids and the new beams."""
    longer = [
        (beam.log_probability + value, parent, token, value)
        for parent, (beam, values, ids) in enumerate(zip(beams, read.values.tolist(), read.ids.tolist(), strict=True))
        for value, token in zip(values, ids, strict=True)
        if value > -math.inf
    ]
    best = sorted(longer, key=lambda one: -one[0])[:width]
    new = [Beam(ids=(*beams[p].ids, t), values=(*beams[p].values, value)) for _, p, t, value in best]
    return [p for _, p, _, _ in best], [t for _, _, t, _ in best], new
