"""Prompts between marks over the tiny tokenizer, and what they spell."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from midspan.engine.marks_settings import MarksLayout
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.prompts.templates import templates
from tests.engine.llama_tiny import tokenizer

CONTINUED = MarksLayout(template="smollm2-continued")


def prompt_of(folder: Path, made: Tokenizer | None = None, layout: MarksLayout = CONTINUED) -> MarksPrompt:
    made = tokenizer() if made is None else made
    made.save(str(folder / "tokenizer.json"))
    return MarksPrompt.open(folder, layout, made.get_vocab_size())


def with_marks(*names: str, more: tuple[str, ...] = ()) -> Tokenizer:
    """The tiny tokenizer with the tokens of some templates, added as tokens that are not special."""
    made = tokenizer(["<|startoftext|>", "<|padding|>", "<|unknown|>"])
    marks = {mark for name in names for mark in templates()[name].needed} | set(more)
    made.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in sorted(marks)])
    return made


def spelled(prompt: MarksPrompt, ids: list[int]) -> str:
    """Ids as text, with marks."""
    return prompt._tokenizer.decode(ids, skip_special_tokens=False)
