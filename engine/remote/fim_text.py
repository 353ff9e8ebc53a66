"""Prompts of fill-in-the-middle as text, for servers that are given a whole prompt; a model's name tells its marks.

    FILE elsewhere ... PREFIX text above SUFFIX text behind MIDDLE beginning-of-the-line

or with the suffix first. As in this process (prompts/marks.py) the gap's line begins behind the middle mark, so that
typing changes the end of the prompt alone. The server itself puts a mark at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

from midspan.engine.marks_settings import Marks
from midspan.engine.prompts.surroundings import ELSEWHERE
from midspan.engine.prompts.templates import templates
from midspan.engine.remote.ask import Ask
from midspan.engine.remote.writing import known_marks, marks_of

# OpenAI's API takes so many, and so does vLLM (VLLM_MAX_STOP_STRINGS).
MOST_STOPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FimText:
    """What stands before the prefix, the suffix and the gap; what ends a gap; and the mark of another file."""

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...]
    suffix_first: bool = False
    file: str = ""

    @property
    def marks(self) -> frozenset[str]:
        """The tokens at which an answer is cut."""
        own = (self.prefix, self.suffix, self.middle, self.file, *self.ends)
        return known_marks() | {mark.strip() for mark in own if mark.strip()}

    def prompt(self, ask: Ask, context: list[str]) -> str:
        """The prompt of a gap. Marks that the text itself spells are left out: a server would take them for its own."""
        above, behind, line, *others = map(self._without_marks, (ask.above, ask.suffix, ask.line, *context))
        blocks = [f"{self.file}{ELSEWHERE}\n{one.rstrip()}\n" for one in others] if self.file else []
        parts = [self.prefix + above, self.suffix + behind]
        if self.suffix_first:
            parts.reverse()
        return "".join((*blocks, *parts, self.middle, line))

    def stops(self, ask: Ask) -> list[str]:
        """Up to MOST_STOPS texts that end a gap; where there are more, an answer is cut at them all the same."""
        return [*(["\n"] if ask.one_line else []), *self.ends][:MOST_STOPS]

    def _without_marks(self, text: str) -> str:
        for mark in (self.prefix, self.suffix, self.middle, self.file, *self.ends):
            text = text.replace(mark.strip(), "") if mark.strip() in text and mark.strip() else text
        return text


# Beside those of fim_templates.json, whose marks are tokens. The spelling of CodeLlama's is that of its paper, blanks
# included; Codestral's raw prompt has no mark before the gap; JetBrains' paper has the suffix first (arXiv 2510.05788).
TEXTS = {
    "codellama": FimText(prefix="<PRE> ", suffix=" <SUF>", middle=" <MID>", ends=("<EOT>",)),
    "codestral": FimText(prefix="[PREFIX]", suffix="[SUFFIX]", middle="", ends=("</s>",), suffix_first=True),
    "codegeex": FimText(
        prefix="<|code_prefix|>", suffix="<|code_suffix|>", middle="<|code_middle|>", ends=("<|endoftext|>",)
    ),
    "mellum": FimText(
        prefix="<fim_prefix>", suffix="<fim_suffix>", middle="<fim_middle>", ends=("<|endoftext|>",), suffix_first=True
    ),
}
# The first row whose words all stand in a model's name, in small letters and without - _ and blanks.
NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("qwen", "coder"), "qwen2.5-coder"),
    (("codegemma",), "codegemma"),
    (("codellama",), "codellama"),
    (("codestral",), "codestral"),
    (("starcoder",), "starcoder2"),
    (("stablecode",), "starcoder2"),
    (("deepseek", "coder"), "deepseek-coder"),
    (("granite", "code"), "granite-code"),
    (("granite4",), "granite-4"),
    (("granite3",), "granite-3"),
    (("seedcoder",), "seed-coder"),
    (("zeta",), "seed-coder"),
    (("codegeex",), "codegeex"),
    (("mellum4b",), "mellum"),
)


def known_texts() -> dict[str, FimText]:
    """All templates by name."""
    return {name: _text_of(marks) for name, marks in templates().items()} | TEXTS


def fim_text(model: str, template: str) -> FimText:
    """The template that is named, or the one that a model's name tells. Raises ValueError with the fix."""
    known = known_texts()
    if template:
        if template not in known:
            raise ValueError(f"template is {template}; give one of {', '.join(known)}")
        return known[template]
    name = "".join(char for char in model.lower() if char not in "-_ ")
    for words, found in NAMES:
        if all(word in name for word in words):
            return known[found]
    raise ValueError(f"the name {model} does not tell how it is asked for a gap; give template: {', '.join(known)}")


def _text_of(marks: Marks) -> FimText:
    """A tokenizer's marks as text."""
    return FimText(
        prefix=marks.prefix,
        suffix=marks.suffix,
        middle=marks.middle,
        ends=tuple(end for end in marks.ends if end in marks_of(marks)),
        suffix_first=marks.suffix_first,
        file=marks.file or "",
    )
