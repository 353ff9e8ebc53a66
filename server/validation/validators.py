"""What a text must be beside free of errors of syntax, by language, before it is shown: the validators' one door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from midspan.server.text.trial import Trial
from midspan.server.validation.splice import Objection, Splice

# Of a larger document nothing is said but by the parse, whoever validates it.
MOST_BYTES = 1 << 20
# Enough to read a small file; a keystroke waits no longer, and the next one finds it read.
PATIENCE_S = 0.02
Validator = Callable[[Splice], Objection | None]
# The module of each language's validator: (Splice) -> Objection, imported when a text in that language is tried.
MODULES = {
    "json": "midspan.server.validation.json_schema",
    "python": "midspan.server.validation.python_names",
    "markdown": "midspan.server.validation.markdown_tables",
}


def validated(
    trial: Trial,
    texts: Sequence[str],
    *,
    invoked: bool,
    folders: Sequence[Path] = (),
    patience_s: float = PATIENCE_S,
) -> tuple[list[str], list[Objection]]:
    """The texts that may be shown, best first, and what was objected to in those that may not.

    `Trial.kept` goes first, as it needs no other text. A person who asks gets what is objected to where there is
    nothing else. `folders` are those that are open; what has to be read there is waited for `patience_s`.
    """
    kept = trial.kept(texts)
    module = MODULES.get(trial.language)
    around = trial.around(MOST_BYTES) if module is not None and kept else None
    if module is None or around is None:
        return kept, []
    validator: Validator = import_module(module).objection
    before, after = around
    around_it = Splice(uri=trial.uri, before=before, fill="", after=after, folders=folders, patience_s=patience_s)
    sure, objections = list[str](), list[Objection]()
    for text in kept:
        found = validator(replace(around_it, fill=text))
        if found is None:
            sure.append(text)
        else:
            objections.append(found)
    return sure or (kept if invoked else []), objections
