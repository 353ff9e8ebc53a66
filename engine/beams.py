"""A gap read and written from left to right, with the text behind it in front: fill-in-the-middle by a beam search.

The prompt is `<bos> suffix <filler> prefix` (suffix first: typing lengthens the text that the prefix cache holds and
changes nothing before it), the gap follows until `<eos>`. A beam search finds the likeliest fills, where draws would
find any. The twin (autoregressive.py) has nothing else; a checkpoint with `beams` ranks them beside its canvases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from midspan.engine.api import GapKind, Line
from midspan.engine.branches import Branches
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompt import EOS_ID, Layout, Prompt
from midspan.engine.recall import Recalled, mixed
from midspan.engine.settings import Recall

SUFFIX_TOKENS = 64
# Nats that no reading falls below, so that one forbidden token does not drown the others.
LEAST = -30.0
# Of other files, whose ids are kept from fill to fill.
MOST_LINES = 2048


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
    """A model and its prompt rules, read causally behind a cached prompt; not for two threads at once.

    With `recall` its readings are mixed with what the text around the gap and lines of other files say.
    """

    def __init__(self, model: DiffusionGemma, prompt: Prompt, recall: Recall | None = None) -> None:
        self.model, self.prompt, self.recall = model, prompt, recall
        self._recalled: Recalled | None = None
        self._lines: dict[str, list[int]] = {}
        self._line_ends = torch.tensor([prompt.cell_text(token).count("\n") for token in range(prompt.vocab_size)])

    @cached_property
    def prefix(self) -> PrefixCache:
        """The memory of the prompt."""
        return PrefixCache(self.model)

    def reset(self) -> None:
        """Let go of the prompt's memory, as after a failure halfway through a fill; the next one takes it."""
        self.__dict__.pop("prefix", None)

    def encode(self, layout: Layout, lines: Sequence[Line] = ()) -> None:
        """Make the cache hold the prompt of a layout; both `steps` and `read` go on from it, and from other `lines`."""
        self.prefix.encode(self.prompt_ids(layout))
        if self.recall is not None:
            self._recalled = self.searched(layout, lines)

    def searched(self, layout: Layout, lines: Sequence[Line]) -> Recalled:
        """The text around a gap and the lines of other files, to be searched for what was written so far."""
        others = (layout.suffix, *(self._line(line.text) for line in lines))
        return Recalled([*layout.beyond, *layout.prefix[1:]], others, self.prompt.vocab_size)

    def _line(self, text: str) -> list[int]:
        """A line of another file and its end; from key to key they are mostly the same."""
        if text not in self._lines:
            if len(self._lines) >= MOST_LINES:
                self._lines.clear()
            self._lines[text] = self.prompt.encode(f"\n{text}\n")
        return self._lines[text]

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
        read = self._begins(rules)
        beams, ended = [Beam()], list[Beam]()
        for _ in range(limit):
            parents, tokens, beams = _widen(beams, read, width)
            hidden = branches.grow(parents, tokens)
            # One distribution over going on and ending; the ways to end count as one.
            both = self._read(hidden, rules, [beam.ids for beam in beams])
            ends = both[:, rules.stops].logsumexp(dim=-1).tolist()
            closed = [
                Beam(ids=beam.ids, values=beam.values, end=end)
                for beam, end in zip(beams, ends, strict=True)
                if self.prompt.text(list(beam.ids), layout).strip()
            ]
            ended = sorted([*ended, *closed], key=lambda beam: beam.log_probability, reverse=True)[:width]
            yield beams, ended
            read = both.masked_fill(~rules.inner, -torch.inf)

    def read(self, layout: Layout, kind: GapKind, gaps: list[tuple[int, ...]]) -> list[Beam]:
        """Gaps of one token at least that something else has written, as the beams they would have been.

        No token and no end falls below LEAST.
        """
        if not gaps:
            return []
        rules, lengths = self.rules(layout, kind), [len(gap) for gap in gaps]
        hidden, rows = self.model.score(gaps, self.prefix.memory)
        beginnings = dict(zip(rows.tolist(), (gap[: end + 1] for gap in gaps for end in range(len(gap))), strict=True))
        both = self._read(hidden, rules, [beginnings[row] for row in range(len(hidden))])
        begins = self._begins(rules)[0, [gap[0] for gap in gaps]].clamp(min=LEAST).tolist()
        # What follows each id; what follows the last is not read.
        after = torch.tensor([token for gap in gaps for token in (*gap[1:], 0)], device=self.model.device)
        inner = both[rows, after].clamp(min=LEAST).split(lengths)
        last = rows[torch.tensor(lengths, device=rows.device).cumsum(dim=0) - 1]
        ends = both[last][:, rules.stops].logsumexp(dim=-1).clamp(min=LEAST).tolist()
        return [
            Beam(ids=gap, values=(begin, *values[:-1].tolist()), end=end)
            for gap, begin, values, end in zip(gaps, begins, inner, ends, strict=True)
        ]

    def distributions(self, gap: tuple[int, ...], rules: Rules) -> torch.Tensor:
        """Log-probabilities [N + 1, V] of each of a gap's N tokens and of its end, given those before it."""
        hidden, _ = self.model.score([gap], self.prefix.memory)
        beginnings = [gap[: end + 1] for end in range(len(gap))]
        return torch.cat((self._begins(rules), self._read(hidden, rules, beginnings)))

    def _begins(self, rules: Rules) -> torch.Tensor:
        """Log-probabilities [1, V] of the gap's first token."""
        values = self.model.logits(self.prefix.last_hidden[None]).masked_fill(~rules.first, -torch.inf)
        return self._mixed(values.log_softmax(dim=-1), rules, [()])

    def _read(self, hidden: torch.Tensor, rules: Rules, gaps: list[tuple[int, ...]]) -> torch.Tensor:
        """Log-probabilities [R, V] of what follows the beginnings `gaps` [R], or the end, by hidden [R, d]."""
        values = self.model.logits(hidden).masked_fill(~(rules.inner | rules.stops), -torch.inf)
        return self._mixed(values.log_softmax(dim=-1), rules, gaps)

    def _mixed(self, values: torch.Tensor, rules: Rules, gaps: list[tuple[int, ...]]) -> torch.Tensor:
        if self.recall is None or self._recalled is None:
            return values
        return mixed(values, gaps, rules.stops, self._recalled, self.recall)


def known(beams: list[Beam], ended: list[Beam], wanted: int) -> bool:
    """Whether the best `wanted` cannot change any more: a beam only loses probability as it grows."""
    return len(ended) >= wanted and ended[wanted - 1].log_probability >= beams[0].log_probability


def faint(beams: list[Beam], ended: list[Beam], floor: float) -> bool:
    """Whether none has so many nats, nor will: a beam only loses probability as it grows."""
    return all(best.log_probability < floor for best in (*beams[:1], *ended[:1]))


def _widen(beams: list[Beam], read: torch.Tensor, width: int) -> tuple[list[int], list[int], list[Beam]]:
    """The `width` likeliest ways to lengthen beams by a token of `read` [R, V]: parent rows, ids and the new beams."""
    scores = torch.tensor([[beam.log_probability] for beam in beams], device=read.device) + read
    best = scores.flatten().topk(min(width, scores.numel()))
    possible = best.indices[best.values > -torch.inf]
    values = read.flatten()[possible].tolist()
    parents, tokens = (possible // read.shape[1]).tolist(), (possible % read.shape[1]).tolist()
    rows = zip(parents, tokens, values, strict=True)
    longer = [Beam(ids=(*beams[p].ids, t), values=(*beams[p].values, v)) for p, t, v in rows]
    return parents, tokens, longer
