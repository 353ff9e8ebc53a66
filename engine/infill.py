"""One hole, start to finish on the calling thread: lay out, encode, denoise canvas by canvas, rank."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch

from midspan.engine.api import Budget, Cell, CellState, Frame, GapKind, Hole, Judge, OnFrame, Stopped
from midspan.engine.backends.graph_loop import CapturedLoop
from midspan.engine.backends.runner import loop_over
from midspan.engine.canvas import Canvas, Draws, Plan
from midspan.engine.denoise import Step
from midspan.engine.hypotheses.beam_search import Beam, FillInTheMiddle, faint, known
from midspan.engine.hypotheses.branches import Branches
from midspan.engine.hypotheses.early_exit import Checked, early
from midspan.engine.hypotheses.lengths import around, canvas_width, fitting, likely_lengths, read_lengths
from midspan.engine.hypotheses.ranking import Gap, Rivals, Scored, after, lay_canvases, rank, together
from midspan.engine.hypotheses.renoise import DRAWS, Draft, lay_draft
from midspan.engine.hypotheses.repair import lay_repairs, spoilt_slots
from midspan.engine.hypotheses.similar_lines import neighbours
from midspan.engine.model import DiffusionGemma
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.prompt import Layout, Prompt
from midspan.engine.settings import CheckpointSettings, SearchFloor

MAX_BLOCKS = 4
REPAIR_STEPS = 2
# What a chat's question says around the text, and more.
ASKING_TOKENS = 256
# More draws than this find little that is new, and every one costs memory and time.
MAX_DRAWS = 8
ROWS = 8


@dataclass(slots=True)
class Watch:
    """Who waits for a fill: `interrupted` and `late` are asked between steps, `on_frame` sees every step."""

    interrupted: Callable[[], bool]
    late: Callable[[], bool]
    on_frame: OnFrame | None = None


PATIENT = Watch(interrupted=lambda: False, late=lambda: False)


@dataclass(slots=True)
class Infilling:
    """What one hole gave and cost: ranked hypotheses (best first), steps, seconds by phase."""

    layout: Layout
    ranked: list[Scored]
    rivals: Rivals = field(default_factory=Rivals)
    steps: int = 0
    stopped: Stopped = "steps"
    encode_s: float = 0.0
    denoise_s: float = 0.0
    rank_s: float = 0.0


class Infiller:
    """A model, its prompt rules and its prefix cache; not for two threads at once."""

    def __init__(self, model: DiffusionGemma, prompt: Prompt, settings: CheckpointSettings) -> None:
        self.model, self.prompt, self.settings = model, prompt, settings
        self.loop = loop_over(model)
        self.judge: Judge | None = None

    def reset(self) -> None:
        """Let go of all memory but the weights', as after a failure halfway through a fill; the next one takes it."""
        for name in ("prefix", "fim"):
            self.__dict__.pop(name, None)
        if isinstance(self.loop, CapturedLoop):
            self.loop.forget()

    @cached_property
    def prefix(self) -> PrefixCache:
        """The memory of the prefix; captured steps know where it lies, so theirs has room from the start."""
        if not isinstance(self.loop, CapturedLoop):
            return PrefixCache(self.model)
        layout = self.settings.layout
        tokens = layout.context_tokens + layout.prefix_tokens + layout.suffix_tokens + ASKING_TOKENS
        return PrefixCache(self.model, tokens)

    @cached_property
    def fim(self) -> FillInTheMiddle:
        """What writes beams; a checkpoint without any never has the memory for it."""
        return FillInTheMiddle(self.model, self.prompt)

    def infill(self, hole: Hole, budget: Budget, watch: Watch) -> Infilling:
        """Fill a hole; a gap of many lines that no canvas has ended goes on in the next block."""
        if hole.strength is not None:
            return self._rewrite(hole, hole.strength, budget, watch)
        out = Infilling(layout=self.prompt.lay_out(hole), ranked=[])
        layout, plan = out.layout, self._plan(budget)
        checked = Checked(self.judge, hole, self.prompt, layout)
        many_lines = hole.kind in self.prompt.many_lines
        out.rivals = self._rivals(out, hole, budget, watch)
        # A search that was broken off says nothing of the gap.
        broken_off = watch.interrupted() or watch.late()
        if not many_lines and not broken_off and self._is_known(out, checked, budget):
            return out
        for block in range(MAX_BLOCKS if self.settings.layout.kind != "clamped" else 1):
            if watch.interrupted():
                out.stopped = "cancelled"
                return out
            draws = Draws(budget.seed + block, self.model.device)
            ranked = self._block(out, layout, hole.kind, plan, draws, budget, watch)
            if ranked and not many_lines:
                ranked = self._judged(out, checked, ranked, budget, draws, watch)
            if out.stopped == "cancelled":
                return out
            out.ranked = [after(out.ranked[0], tail) for tail in ranked] if out.ranked and ranked else ranked
            if not ranked or ranked[0].ended or not many_lines or out.stopped == "deadline":
                break
            # They stood for the whole of the gap.
            out.rivals = Rivals()
            layout = replace(layout, prefix=[*layout.prefix, *ranked[0].ids], heal="")
        if many_lines and out.ranked:
            out.ranked = checked.ordered(out.ranked, self.settings.hypotheses.ranking.syntax, budget.candidates)
        return out

    def _rewrite(self, hole: Hole, strength: float, budget: Budget, watch: Watch) -> Infilling:
        """Renoise a share of the hole's draft, piece by piece; a piece sees what stands behind it until its own turn.

        Nothing is ranked when the time runs out before the last piece: part of a rewrite is none.
        """
        out = Infilling(layout=self.prompt.lay_out(hole), ranked=[])
        draft = Draft.of(self.prompt, hole.draft, out.layout, strength, budget.seed)
        ids, plan, size = list(draft.ids), self._plan(budget), max(self.settings.layout.block_slots)
        checked = Checked(self.judge, hole, self.prompt, out.layout)
        pieces = draft.pieces(size)
        for number, (begin, end) in enumerate(pieces):
            before, behind = ids[:begin], ids[end:]
            layout = Layout(
                prefix=[*out.layout.prefix, *before],
                suffix=[*behind, *out.layout.suffix],
                heal="" if begin else out.layout.heal,
                append=out.layout.append,
            )
            self._encode(out, layout)
            width = min(self.model.config.canvas_length, 2 * size)
            draws = max(DRAWS, min(MAX_DRAWS, budget.candidates))
            canvas = lay_draft(
                self.prompt, ids[begin:end], draft.free[begin:end], draws, layout, width, self.model.device
            )
            ranked = self._finish(out, canvas, layout, plan, Draws(budget.seed + number, self.model.device), watch)
            if watch.interrupted() or (out.stopped == "deadline" and end < pieces[-1][1]):
                out.ranked, out.stopped = [], "cancelled" if watch.interrupted() else "deadline"
                return out
            whole = [replace(one, ids=(*before, *one.ids, *behind)) for one in ranked]
            whole = checked.ordered(whole, self.settings.hypotheses.ranking.syntax, budget.candidates)
            out.ranked = [together(out.ranked[0], one) for one in whole] if out.ranked else whole
            ids = list(whole[0].ids)
        return out

    def _is_known(self, out: Infilling, checked: Checked, budget: Budget) -> bool:
        """Whether no canvas is needed, where nothing but a sure fill is wanted: that one is there, or none will be."""
        rule, only_sure = self.settings.show.early_exit, budget.least >= self.settings.show.show_threshold
        if not out.rivals.promise(self._least(budget)):
            out.stopped = "empty"
            return True
        if rule is None or not only_sure or budget.candidates > 1:
            return False
        clock = time.perf_counter()
        found, out.rivals = early(out.rivals, rule, checked, budget.least)
        out.rank_s += time.perf_counter() - clock
        if found is not None:
            out.ranked, out.stopped = found, "settled" if found else "empty"
        return found is not None

    def _plan(self, budget: Budget) -> Plan:
        settings = self.settings.denoise
        return Plan(
            steps=settings.steps if budget.steps is None else min(budget.steps, settings.steps),
            t_min=settings.t_min,
            t_max=settings.t_max,
            entropy_bound=settings.entropy_bound,
            confidence_threshold=settings.confidence_threshold,
            # Likely lengths were chosen before, and a short gap has the least entropy.
            keep=None if self.settings.layout.kind == "clamped" else max(settings.survivors, budget.candidates),
        )

    def _block(
        self, out: Infilling, layout: Layout, kind: GapKind, plan: Plan, draws: Draws, budget: Budget, watch: Watch
    ) -> list[Scored]:
        """One batch of canvases behind one prefix, ranked; nothing when the request was cancelled."""
        self._encode(out, layout)
        settings, longest = self.settings, self.model.config.canvas_length
        many_lines = kind in self.prompt.many_lines
        slots = fitting(settings, self._slots(kind), longest)
        if budget.candidates == 1 and not many_lines:
            slots = around(slots, out.rivals.lengths, settings.hypotheses.length_slack)
        width = canvas_width(settings, slots, longest)
        if settings.layout.kind == "clamped":
            scores = self._read_lengths(out, layout, slots, width, draws)
            count = max(settings.denoise.survivors, budget.candidates)
            slots = likely_lengths(scores, settings, count, many_lines=many_lines)
        each = max(settings.denoise.draws, min(MAX_DRAWS, -(-budget.candidates // len(slots))))
        canvas = lay_canvases(layout, self.prompt, slots, each, width, self.model.device)
        return self._finish(out, canvas, layout, plan, draws, watch, out.rivals)

    def _slots(self, kind: GapKind) -> tuple[int, ...]:
        return self.settings.layout.block_slots if kind in self.prompt.many_lines else self.settings.layout.slots

    def _read_lengths(
        self, out: Infilling, layout: Layout, slots: tuple[int, ...], width: int, draws: Draws
    ) -> dict[int, tuple[float, float]]:
        """The scores of the gap lengths `slots`; reading them counts as a step."""
        clock = time.perf_counter()
        each, memory = self.settings.denoise.draws, self.prefix.memory
        scores = read_lengths(self.model, memory, layout, self.prompt, slots, width, each, draws)
        out.steps += 1
        out.denoise_s += time.perf_counter() - clock
        return scores

    def _rivals(self, out: Infilling, hole: Hole, budget: Budget, watch: Watch) -> Rivals:
        """What the neighbourhood and the beam search say about a gap, if the checkpoint has them."""
        nearby = self._nearby(hole, out.layout)
        if not self.settings.hypotheses.beams:
            return Rivals(nearby=nearby)
        clock = time.perf_counter()
        self.fim.encode(out.layout)
        out.encode_s += time.perf_counter() - clock
        clock = time.perf_counter()
        least = self._least(budget)
        floor = -torch.inf if least is None or Rivals(nearby=nearby).promise(least) else least.log_prob
        beams = {beam.ids: beam for beam in self._search(out.layout, hole.kind, budget, watch, floor)}
        out.denoise_s += time.perf_counter() - clock
        return Rivals(nearby=nearby, beams=beams, read=partial(self.fim.read, out.layout, hole.kind))

    def _least(self, budget: Budget) -> SearchFloor | None:
        """What must speak for a gap, where nothing but a sure fill is wanted; None where any is."""
        return self.settings.show.search_floor if budget.least >= self.settings.show.show_threshold else None

    @torch.inference_mode()
    def _search(self, layout: Layout, kind: GapKind, budget: Budget, watch: Watch, floor: float) -> list[Beam]:
        """The likeliest beams, as many as have ended when the best is known, none comes to `floor` nats any more,
        nobody waits or it is late."""
        ended, branches = list[Beam](), Branches(self.model, self.fim.prefix.memory)
        width = max(self.settings.hypotheses.beams, min(MAX_DRAWS, budget.candidates))
        try:
            for beams, ended in self.fim.steps(branches, layout, kind, width, max(self._slots(kind))):
                enough = known(beams, ended, min(width, budget.candidates)) or faint(beams, ended, floor)
                if enough or watch.interrupted() or watch.late():
                    break
        finally:
            branches.drop()
        return ended

    def _nearby(self, hole: Hole, layout: Layout) -> dict[Gap, float]:
        """Gap ids and evidence of what the neighbourhood says, where token healing allows them."""
        if not self.settings.hypotheses.similar_lines:
            return {}
        allowed = self.prompt.allowed_first(layout.heal)
        longest, out = self.model.config.canvas_length // 2, dict[Gap, float]()
        for neighbour in neighbours(hole, self.settings.hypotheses.similar_lines):
            gap = tuple(self.prompt.encode(layout.heal + neighbour.text))
            if len(gap) <= longest and (allowed is None or bool(allowed[gap[0]])):
                out[gap] = neighbour.evidence
        return out

    def _encode(self, out: Infilling, layout: Layout) -> None:
        clock = time.perf_counter()
        self.prefix.encode(layout.prefix)
        out.encode_s += time.perf_counter() - clock

    def _finish(
        self,
        out: Infilling,
        canvas: Canvas,
        layout: Layout,
        plan: Plan,
        draws: Draws,
        watch: Watch,
        rivals: Rivals | None = None,
    ) -> list[Scored]:
        """Denoise a batch and rank what it came to; nothing when the request was cancelled."""
        rivals = Rivals() if rivals is None else rivals
        clock = time.perf_counter()
        last = self._denoise(out, canvas, plan, draws, watch)
        out.denoise_s += time.perf_counter() - clock
        if last is None:
            return []
        clock = time.perf_counter()
        memory, last_hidden = self.prefix.memory, self.prefix.last_hidden
        rows, weights = canvas.select(last.rows), self.settings.hypotheses.ranking
        ranked = rank(self.model, memory, last_hidden, last.draft, rows, layout, self.prompt, rivals, weights)
        out.rank_s += time.perf_counter() - clock
        return ranked

    def _judged(
        self,
        out: Infilling,
        checked: Checked,
        ranked: list[Scored],
        budget: Budget,
        draws: Draws,
        watch: Watch,
    ) -> list[Scored]:
        """What parses before what does not; where nothing does, the best is denoised again where it is wrong.

        Not so where nothing but a sure fill is wanted.
        """
        penalty, layout, wanted = self.settings.hypotheses.ranking.syntax, out.layout, budget.candidates
        ordered = checked.ordered(ranked, penalty, wanted)
        if ordered[0].parses or self._least(budget) is not None or out.stopped == "deadline" or watch.late():
            return ordered
        best = ordered[0]
        spoilt = spoilt_slots(self.prompt, best.ids, layout, checked.errors(best.ids))
        if not any(spoilt):
            return ordered
        # What a line near by says may be longer than any of the slots.
        width = min(self.model.config.canvas_length, 2 * max(*self.settings.layout.slots, len(best.ids)))
        canvas = lay_repairs(self.prompt, best.ids, spoilt, layout, width, self.model.device)
        # Beside what was there before, so only the readings count.
        read, plan = Rivals(read=out.rivals.read), replace(self._plan(budget), steps=REPAIR_STEPS)
        more = self._finish(out, canvas, layout, plan, draws, watch, read)
        known = {one.ids for one in ordered}
        return checked.ordered([*ordered, *(one for one in more if one.ids not in known)], penalty, wanted)

    def _denoise(self, out: Infilling, canvas: Canvas, plan: Plan, draws: Draws, watch: Watch) -> Step | None:
        """The last step when the canvases settle, the steps or the time run out; None after a cancel."""
        # In steps, so that few sizes of product occur; the suffix rows among them are read again.
        gap_rows = min(canvas.ids.shape[1], -(-max(canvas.gap_sizes) // ROWS) * ROWS)
        later_rows = gap_rows if self.settings.denoise.reuse_suffix else None
        step = None
        out.stopped = "steps"
        for step in self.loop(self.prefix.memory, canvas, plan, draws, later_rows):
            out.steps += 1
            if watch.on_frame is not None:
                watch.on_frame(self._frame(step, canvas.select(step.rows), plan, out.layout))
            if watch.interrupted():
                out.stopped = "cancelled"
                return None
            if bool(step.finished.all()):
                out.stopped = "settled"
            elif watch.late():
                out.stopped = "deadline"
                break
        return step

    def _frame(self, step: Step, canvas: Canvas, plan: Plan, layout: Layout) -> Frame:
        """The hypothesis of least entropy as a person would see it."""
        row = int(step.entropy.sum(dim=-1).argmin())
        tokens, free, kept = step.draft[row].tolist(), canvas.free[row].tolist(), step.accepted[row].tolist()
        shown = canvas.free.shape[1] if canvas.valid is None else int(canvas.valid[row].sum())
        cells = []
        for token, is_free, is_kept in zip(tokens[:shown], free, kept, strict=False):
            state: CellState = "frozen" if not is_free else "settled" if is_kept else "free"
            if is_free and token == self.prompt.filler_id:
                state = "filler"
            cells.append(Cell(text=self.prompt.cell_text(token), state=state))
        gap = self.prompt.gap_ids(tokens[: canvas.gap_sizes[row]])
        text, done = self.prompt.text(gap, layout), bool(step.finished[row])
        return Frame(step=step.number, steps=plan.steps, text=text, cells=tuple(cells), settled=done)
