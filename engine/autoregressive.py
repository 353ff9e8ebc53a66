"""The autoregressive twin of infill.py: one hole filled from left to right, for a checkpoint of layout `fim`.

Same network, read causally only. The prompt is `<bos> suffix <filler> prefix` (suffix first: typing lengthens the text
that the prefix cache holds and changes nothing before it), the gap follows until `<eos>`. A beam search keeps as many
hypotheses as a canvas checkpoint denoises: they are the likeliest fills that are found, where draws would be any.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from midspan.engine.api import Budget, Cell, Frame, GapKind, Hole, Judge
from midspan.engine.cache import Cache
from midspan.engine.candidates import Scored, judged
from midspan.engine.features import FEATURES
from midspan.engine.infill import Infilling, Watch
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompt import EOS_ID, Layout, Prompt
from midspan.engine.settings import CheckpointSettings
from midspan.kernels.attention import attention_reference

SUFFIX_TOKENS = 64
# A gap of many lines may grow to so many times the longest gap that was trained on.
LONGEST_SPAN = 4
MAX_BEAMS = 8


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

    def scored(self) -> Scored:
        """As ranking and calibration take it; the end stands where a canvas checkpoint's suffix does."""
        values, end = self.values, self.end or 0.0
        known = {
            "gap_mean": sum(values) / len(values),
            "gap_min": min(values),
            "gap_sum": sum(values),
            "suffix_mean": end,
            "suffix_min": end,
        }
        features = tuple(known.get(name, 0.0) for name in FEATURES)
        likelihood = self.log_probability
        return Scored(ids=self.ids, log_probability=likelihood, standing=likelihood, features=features, ended=True)


class Branches:
    """Texts that grow behind one cached prefix. Each token's keys and values are kept once; a mask says whose they are.

    The cache's own length counts the branches too, until `drop`.
    """

    def __init__(self, model: DiffusionGemma, memory: Cache) -> None:
        self._model, self._memory, self._prefix = model, memory, memory.length
        self._sees = torch.ones(1, memory.length, dtype=torch.bool, device=model.device)
        self._places = torch.arange(memory.length, device=model.device)
        self._depth = 0

    def grow(self, parents: list[int], ids: list[int]) -> torch.Tensor:
        """Put one id behind each parent (a row of the last call; 0 at first). Returns hidden rows [len(ids), d]."""
        model, memory, rows = self._model, self._memory, len(ids)
        own = torch.eye(rows, dtype=torch.bool, device=model.device)
        self._sees = torch.cat((self._sees[parents], own), dim=1)
        place = self._prefix + self._depth
        positions = torch.full((1, rows), place, device=model.device)
        self._places = torch.cat((self._places, positions[0]))
        windows = {layer.window for layer in model.config.layers}
        masks = {w: self._sees if w is None else self._sees & (place - self._places < w) for w in windows}

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            memory.write(layer, k, v)
            k, v = memory.read(layer, 0, memory.length + rows)
            return attention_reference(q, k, v, masks[model.config.layers[layer].window])

        given = torch.tensor([ids], device=model.device)
        hidden = model.run(model.embed(given), positions, model.scalars(encoder=True), attend)
        memory.advance(rows)
        self._depth += 1
        return hidden[0]

    def drop(self) -> None:
        """Leave the prefix alone in the cache."""
        self._memory.truncate(self._prefix)


class Autoregressive:
    """A model, its prompt rules and its prefix cache, as Infiller; not for two threads at once."""

    def __init__(self, model: DiffusionGemma, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.model, self.prompt, self.settings = model, prompt, settings
        self.prefix = PrefixCache(model)
        self.judge: Judge | None = None
        self._line_ends = torch.tensor([prompt.cell_text(token).count("\n") for token in range(prompt.vocab_size)])

    def reset(self) -> None:
        """Forget the prefix, as after a failure halfway through a fill."""
        self.prefix = PrefixCache(self.model)

    @torch.inference_mode()
    def infill(self, hole: Hole, budget: Budget, watch: Watch) -> Infilling:
        """Fill a hole; `budget.steps` counts denoise steps and means nothing here, a token is a step.

        Raises ValueError for a hole with a strength: what is written from left to right has nothing to renoise.
        """
        if hole.strength is not None:
            raise ValueError("a checkpoint of layout fim rewrites no part of a draft; leave the strength out")
        out = Infilling(layout=self.prompt.lay_out(hole), ranked=[])
        if watch.interrupted():
            out.stopped = "cancelled"
            return out
        clock = time.perf_counter()
        self.prefix.encode(self.prompt_ids(out.layout))
        out.encode_s = time.perf_counter() - clock
        clock = time.perf_counter()
        branches = Branches(self.model, self.prefix.memory)
        try:
            found = [beam.scored() for beam in self._search(out, branches, hole.kind, budget, watch)]
            judge, layout = self.judge, out.layout
            out.ranked = judged(found, lambda one: not (judge and judge(hole, self.prompt.text(list(one.ids), layout))))
        finally:
            branches.drop()
        out.denoise_s = time.perf_counter() - clock
        return out

    def prompt_ids(self, layout: Layout) -> list[int]:
        """What the gap follows: `<bos> suffix <filler> prefix`."""
        bos, *prefix = layout.prefix
        return [bos, *layout.suffix[:SUFFIX_TOKENS], self.prompt.filler_id, *prefix]

    def _search(self, out: Infilling, branches: Branches, kind: GapKind, budget: Budget, watch: Watch) -> list[Beam]:
        """Whole hypotheses, the likeliest first: until the best are settled, the gap is too long or the time is out."""
        settings = self.settings
        width = max(settings.draws * len(settings.slots), min(MAX_BEAMS, budget.candidates))
        limit = max(settings.slots) * (LONGEST_SPAN if kind in self.prompt.many_lines else 1)
        ended = list[Beam]()
        for beams, ended in self.steps(branches, out.layout, kind, width, limit):
            out.steps += 1
            done = known(beams, ended, min(width, budget.candidates))
            if watch.on_frame is not None:
                watch.on_frame(self._frame(out, limit, ended[0] if done else beams[0], done))
            if watch.interrupted():
                out.stopped = "cancelled"
                return []
            if done or watch.late():
                out.stopped = "settled" if done else "deadline"
                break
        return ended

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
        read = self._read(self.prefix.last_hidden[None], rules.first)
        beams, ended = [Beam()], list[Beam]()
        for _ in range(limit):
            parents, tokens, beams = _widen(beams, read, width)
            hidden = branches.grow(parents, tokens)
            # One distribution over going on and ending; the ways to end count as one.
            both = self._read(hidden, rules.inner | rules.stops)
            ends = both[:, rules.stops].logsumexp(dim=-1).tolist()
            closed = [
                Beam(ids=beam.ids, values=beam.values, end=end)
                for beam, end in zip(beams, ends, strict=True)
                if self.prompt.text(list(beam.ids), layout).strip()
            ]
            ended = sorted([*ended, *closed], key=lambda beam: beam.log_probability, reverse=True)[:width]
            yield beams, ended
            read = both.masked_fill(~rules.inner, -torch.inf)

    def _read(self, hidden: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [R, V] of the next token, of those that are allowed [V], after hidden rows [R, d]."""
        return self.model.logits(hidden).masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)

    def _frame(self, out: Infilling, limit: int, beam: Beam, done: bool) -> Frame:
        """The likeliest hypothesis so far as a person would see it."""
        ids = list(beam.ids)
        cells = tuple(Cell(text=self.prompt.cell_text(token), state="settled") for token in ids)
        text = self.prompt.text(ids, out.layout)
        return Frame(step=out.steps, steps=limit, text=text, cells=cells, settled=done)


def known(beams: list[Beam], ended: list[Beam], wanted: int) -> bool:
    """Whether the best `wanted` cannot change any more: a beam only loses probability as it grows."""
    return len(ended) >= wanted and ended[wanted - 1].log_probability >= beams[0].log_probability


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
