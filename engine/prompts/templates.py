"""Which tokens mark prefix, suffix and gap: those of a template whose tokens a tokenizer has, or those of the settings.

fim_templates.json has those of well-known models. Neither torch nor a tokenizer is needed here.
"""

from __future__ import annotations

from collections.abc import Container
from functools import cache
from pathlib import Path

from midspan.engine.api import CheckpointError
from midspan.engine.marks_settings import Marks, MarksLayout
from midspan.engine.weights.typed_json import decode, read_object

TEMPLATES = Path(__file__).with_name("fim_templates.json")


@cache
def templates() -> dict[str, Marks]:
    """The marks of well-known tokenizers by name; the first whose tokens a tokenizer has is taken."""
    return {name: decode(Marks, marks, name) for name, marks in read_object(TEMPLATES).items()}


def chosen_marks(file: Path, settings: Path, layout: MarksLayout, known: Container[str]) -> Marks:
    """The marks that the settings give or name, or those of the first template that fits. Raises CheckpointError."""
    marks, table = layout.marks, templates()
    if marks is None and layout.template is not None and (marks := table.get(layout.template)) is None:
        raise CheckpointError(f"{settings}: layout.template is {layout.template}; give one of {', '.join(table)}")
    if marks is None:
        fitting = (one for one in table.values() if not one.by_name and all(mark in known for mark in one.needed))
        if (marks := next(fitting, None)) is None:
            problem = "its tokenizer has the fill-in-the-middle tokens of no model that is known here"
            fix = f"give layout.template ({', '.join(table)}) or layout.marks in {settings.name}, or take another model"
            raise CheckpointError(f"{file}: {problem}; {fix}")
    if layout.context_tokens and not marks.reads_others:
        why = "a model with these marks was not taught to read other files"
        raise CheckpointError(f"{settings}: layout.context_tokens is {layout.context_tokens}; give 0, as {why}")
    for mark in marks.needed:
        if mark not in known:
            raise CheckpointError(f"{file}: no token {mark}, which layout needs; give other marks")
    return marks
