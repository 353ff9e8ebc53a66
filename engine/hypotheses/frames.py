"""What a person sees of a fill on its way: the likeliest canvas after a denoise step, or the likeliest beam."""

from __future__ import annotations

from midspan.engine.api import Cell, CellState, Frame
from midspan.engine.canvas import Canvas
from midspan.engine.denoise import Step
from midspan.engine.hypotheses.beam_search import Beam, FimPrompt
from midspan.engine.hypotheses.task import Infilling
from midspan.engine.prompts.prompt import Layout, Prompt


def canvas_frame(prompt: Prompt, layout: Layout, step: Step, canvas: Canvas, steps: int) -> Frame:
    """The canvas with the lowest entropy after one of at most `steps`; `canvas` has those that the step has read."""
    row = int(step.entropy.sum(dim=-1).argmin())
    tokens, free, kept = step.draft[row].tolist(), canvas.free[row].tolist(), step.accepted[row].tolist()
    shown = canvas.free.shape[1] if canvas.valid is None else int(canvas.valid[row].sum())
    cells = []
    for token, is_free, is_kept in zip(tokens[:shown], free, kept, strict=False):
        state: CellState = "frozen" if not is_free else "settled" if is_kept else "free"
        if is_free and token == prompt.filler_id:
            state = "filler"
        cells.append(Cell(text=prompt.cell_text(token), state=state))
    text = prompt.text(prompt.gap_ids(tokens[: canvas.gap_sizes[row]]), layout)
    return Frame(step=step.number, steps=steps, text=text, cells=tuple(cells), settled=bool(step.finished[row]))


def beam_frame(prompt: FimPrompt, out: Infilling, beam: Beam, limit: int, *, settled: bool) -> Frame:
    """A beam of at most `limit` tokens, after the steps that `out` counts."""
    cells = tuple(Cell(text=prompt.cell_text(token), state="settled") for token in beam.ids)
    text = prompt.text(list(beam.ids), out.layout)
    return Frame(step=out.steps, steps=limit, text=text, cells=cells, settled=settled)
