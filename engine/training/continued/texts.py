"""The corpus in memory: texts by language and package, drawn at random."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from midspan.engine.api import CheckpointError

# What part of all rows is of a language; one that the corpus lacks is left out.
LANGUAGE_SHARES = {"python": 0.42, "javascript": 0.2, "go": 0.17, "rust": 0.17, "c": 0.04}


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One source file of a package."""

    language: str
    package: str
    path: str
    text: str


@dataclass(slots=True)
class _Package:
    files: list[Text] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class Corpus:
    """Draws texts: a language by its share, a package by the root of its size, a file of it by its size."""

    def __init__(self, texts: list[Text]) -> None:
        if not texts:
            raise CheckpointError("the corpus holds no text; make it with engine/training/continued/sources.py")
        self._packages: dict[str, dict[str, _Package]] = {}
        for text in texts:
            self._packages.setdefault(text.language, {}).setdefault(text.package, _Package()).files.append(text)
        self._ends: dict[str, list[float]] = {}
        for language, packages in self._packages.items():
            for package in packages.values():
                package.ends = list(accumulate(len(file.text) for file in package.files))
            self._ends[language] = list(accumulate(package.ends[-1] ** 0.5 for package in packages.values()))
        self.languages = [language for language in LANGUAGE_SHARES if language in self._packages]
        self._shares = [LANGUAGE_SHARES[language] for language in self.languages]

    @classmethod
    def read(cls, file: Path) -> Corpus:
        """Read `train.jsonl` or `heldout.jsonl`."""
        with file.open(encoding="utf-8") as lines:
            return cls([Text(**json.loads(line)) for line in lines])

    def draw(self, chance: random.Random, language: str | None = None) -> Text:
        """A text, of `language` where one is named."""
        language = language or chance.choices(self.languages, self._shares)[0]
        packages = list(self._packages[language].values())
        package = chance.choices(packages, cum_weights=self._ends[language])[0]
        return chance.choices(package.files, cum_weights=package.ends)[0]

    def siblings(self, text: Text) -> list[Text]:
        """The other files of a text's package."""
        return [other for other in self._packages[text.language][text.package].files if other.path != text.path]

    def all(self, language: str) -> list[Text]:
        """Every text of a language."""
        return [text for package in self._packages[language].values() for text in package.files]
