"""What a text must be beside free of errors of syntax, by language, before it is shown: the validators' one door."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from midspan.server.text.trial import Trial
from midspan.server.validation.splice import NO_FOLDERS, Files, Objection, Splice

# Of a larger document nothing is said but by the parse, whoever validates it.
MOST_BYTES = 1 << 20
Validator = Callable[[Splice], Objection | None]
# The module of each language's validator: (Splice) -> Objection, imported when a text in that language is tried.
MODULES = {
    "json": "midspan.server.validation.json_schema",
    "toml": "midspan.server.validation.toml_schema",
    "yaml": "midspan.server.validation.yaml_schema",
    "python": "midspan.server.validation.python_names",
    "markdown": "midspan.server.validation.markdown_tables",
}
BREAKS = Objection(kind="parse", words="breaks what parses here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of some texts: those that pass, and those that do not, each with why; both best first."""

    sure: tuple[str, ...] = ()
    objected: tuple[tuple[str, Objection], ...] = ()

    @property
    def objections(self) -> list[Objection]:
        """All that was said."""
        return [objection for _, objection in self.objected]

    def shown(self, *, invoked: bool) -> list[str]:
        """The texts that may be shown, best first.

        A person who asks gets what a validator objects to where there is nothing else, but nothing that breaks the
        syntax.
        """
        if self.sure or not invoked:
            return list(self.sure)
        return [text for text, objection in self.objected if objection.kind != "parse"]


def judged(trial: Trial, texts: Sequence[str], files: Files = NO_FOLDERS) -> Verdict:
    """The verdict on texts, best first. `Trial.kept` goes first, as it needs no other text."""
    kept = trial.kept(texts)
    check = _validator(trial, files) if kept else None
    sure, objected = list[str](), list[tuple[str, Objection]]()
    for text in texts:
        found = BREAKS if text not in kept else None if check is None else check(text)
        if found is None:
            sure.append(text)
        else:
            objected.append((text, found))
    return Verdict(sure=tuple(sure), objected=tuple(objected))


def validated(
    trial: Trial, texts: Sequence[str], *, invoked: bool, files: Files = NO_FOLDERS
) -> tuple[list[str], list[Objection]]:
    """The texts that may be shown, best first, and what was objected to in those that may not."""
    verdict = judged(trial, texts, files)
    return verdict.shown(invoked=invoked), verdict.objections


def _validator(trial: Trial, files: Files) -> Callable[[str], Objection | None] | None:
    """What checks a text in place of the span; None where no validator knows the language, or the document changed."""
    module = MODULES.get(trial.language)
    around = trial.around(MOST_BYTES) if module is not None else None
    if module is None or around is None:
        return None
    validator: Validator = import_module(module).objection
    empty = Splice(uri=trial.uri, before=around[0], fill="", after=around[1], files=files)
    return lambda text: validator(replace(empty, fill=text))
