"""`midspan fill --explain`: what the prompt of one gap is made of, for the user's own terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TextIO

from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from midspan.engine.api import About, ContextBudget, Hole, Line
from midspan.server.context.context import CHARS_A_TOKEN, Used, as_read, collect
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap
from midspan.server.settings import Settings
from midspan.server.text.documents import Document, Documents
from midspan.server.text.languages import name_of
from midspan.server.text.line_index import Place
from midspan.server.text.uris import key_of
from midspan.server.workspace.index import Index
from midspan.server.workspace.indexer import Workspace
from midspan.server.workspace.indexer_client import opened, scan_of

SCAN_S = 10.0
# What is shown for a checkpoint that reads no context, in tokens.
SHOWN_TOKENS = 2000


def gather(
    document: Document, place: Place, hole: Hole, about: About, *, tokens: int
) -> tuple[list[Used], tuple[Line, ...]]:
    """The context, within `tokens`, and the lines of other files that an editor's server would give the engine.

    It reads the file's repository first, for at most 10 s.
    """
    root = root_of(document)
    lines = (name_of(document.language_id),) if about.reads_other_lines else ()
    scan = replace(scan_of((root,), (), definitions=tokens > 0, lines=lines), seconds=SCAN_S)
    workspace, index, documents = Workspace(), Index(scan.roots), Documents()
    for finding in chain(workspace.scan(scan), workspace.opened(opened(document))):
        index.take(finding)
    gap = Gap(document=document, place=place, hole=hole, index=index, documents=documents, edits=Edits(), roots=(root,))
    used = collect(gap, CHARS_A_TOKEN * tokens, patience_s=SCAN_S) if tokens else []
    return used, index.lines_near(hole, gap.key)


def root_of(document: Document) -> Path:
    """The repository that a document's file is in, else its folder."""
    file = Path(key_of(document.uri))
    return next((folder for folder in file.parents if (folder / ".git").exists()), file.parent)


def in_time(budget: ContextBudget) -> str:
    """How much of the context there is time for where the deadline is the one that a server begins with."""
    deadline_ms = Settings().deadline_ms
    tokens, share = budget.within(deadline_ms / 1000), f"{100 * budget.share:.0f} %"
    speed = f"prompts are read at {budget.per_s:.0f} tokens a second here"
    return f"{tokens} tokens of it where a suggestion has {deadline_ms} ms; {speed}, and may take {share} of that"


def explain(used: Sequence[Used], hole: Hole, about: About, out: TextIO) -> None:
    """Print the parts of the prompt in the order in which the model reads them."""
    console = Console(file=out, highlight=False, soft_wrap=True)
    if about.context_tokens:
        console.print(f"context: at most {about.context_tokens} tokens, cut from the front")
        if about.context_budget is not None:
            console.print(f"context: {in_time(about.context_budget)}")
    else:
        console.print(f"context: {about.checkpoint} reads none; another checkpoint would read this", markup=False)
    for one in as_read(used):
        console.print(Text(f"{one.source}: {one.chars} characters in {one.ms:.1f} ms", "bold"))
        for snippet in one.snippets:
            console.print(Text(textwrap.indent(snippet, "    "), "dim"))
    if about.reads_other_lines:
        texts = dict.fromkeys(line.text for line in hole.other_lines)
        console.print(Text(f"lines of other files that may be what this one becomes: {len(texts)}", "bold"))
        for text in texts:
            console.print(Text(f"    {text}", "dim"))
    for name, text in (("before the gap", hole.prefix), ("after the gap", hole.suffix)):
        console.print(Text(f"{name}: {len(text)} characters, {text.count(chr(10))} lines", "bold"))
    console.print(Text(f"gap: {hole.kind}, {hole.language}", "bold"))
