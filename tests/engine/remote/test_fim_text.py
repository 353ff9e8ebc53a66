"""Prompts of fill-in-the-middle as text: which template a model's name tells, and what it makes of a hole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from midspan.engine.api import Budget
from midspan.engine.remote.ask import Ask
from midspan.engine.remote.fim_text import fim_text, known_texts
from tests.engine.remote.holes import ADD, BODY, hole_of

ABOVE, LINE, BEHIND = "def add(a, b):\n", "    return ", "\n\n\nprint(add(1, 2))\n"


def prompt(model: str, hole: object = ADD, template: str = "") -> str:
    assert isinstance(hole, type(ADD))
    return fim_text(model, template).prompt(Ask(hole=hole, budget=Budget()), list(hole.context))


# Reference: zed-industries/zed crates/edit_prediction/src/fim.rs, continuedev/continue AutocompleteTemplate.ts,
# sglang code_completion_parser.py.
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen2.5-Coder-1.5B", f"<|fim_prefix|>{ABOVE}<|fim_suffix|>{BEHIND}<|fim_middle|>{LINE}"),
        ("qwen3-coder:30b", f"<|fim_prefix|>{ABOVE}<|fim_suffix|>{BEHIND}<|fim_middle|>{LINE}"),
        ("google/codegemma-2b", f"<|fim_prefix|>{ABOVE}<|fim_suffix|>{BEHIND}<|fim_middle|>{LINE}"),
        ("ibm-granite/granite-4.0-micro", f"<|fim_prefix|>{ABOVE}<|fim_suffix|>{BEHIND}<|fim_middle|>{LINE}"),
        ("ibm-granite/granite-3b-code-base", f"<fim_prefix>{ABOVE}<fim_suffix>{BEHIND}<fim_middle>{LINE}"),
        ("bigcode/starcoder2-3b", f"<fim_prefix>{ABOVE}<fim_suffix>{BEHIND}<fim_middle>{LINE}"),
        ("stable-code-3b", f"<fim_prefix>{ABOVE}<fim_suffix>{BEHIND}<fim_middle>{LINE}"),
        ("deepseek-coder-v2-lite", f"<｜fim▁begin｜>{ABOVE}<｜fim▁hole｜>{BEHIND}<｜fim▁end｜>{LINE}"),
        ("codestral-22b", f"[SUFFIX]{BEHIND}[PREFIX]{ABOVE}{LINE}"),
        ("codellama/CodeLlama-7b-hf", f"<PRE> {ABOVE} <SUF>{BEHIND} <MID>{LINE}"),
        ("codegeex4-all-9b", f"<|code_prefix|>{ABOVE}<|code_suffix|>{BEHIND}<|code_middle|>{LINE}"),
        ("Seed-Coder-8B-Base", f"<[fim-suffix]>{BEHIND}<[fim-prefix]>{ABOVE}<[fim-middle]>{LINE}"),
        ("zed-industries/zeta-2.1", f"<[fim-suffix]>{BEHIND}<[fim-prefix]>{ABOVE}<[fim-middle]>{LINE}"),
        ("JetBrains/Mellum-4b-base", f"<fim_suffix>{BEHIND}<fim_prefix>{ABOVE}<fim_middle>{LINE}"),
    ],
)
def test_a_models_name_tells_how_it_is_asked(model: str, expected: str) -> None:
    assert prompt(model) == expected


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mamba-thing", "qwen2.5-7b", "JetBrains/Mellum2-12B"])
def test_a_name_that_does_not_tell_is_one_line_with_the_fix(model: str) -> None:
    with pytest.raises(ValueError, match=f"the name {model} does not tell .* give template: qwen2.5-coder, "):
        fim_text(model, "")
    assert prompt(model, template="starcoder2").startswith("<fim_prefix>")


def test_a_template_that_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match=r"^template is none-such; give one of qwen2\.5-coder, "):
        fim_text("qwen2.5-coder", "none-such")


def test_other_text_stands_before_it_where_the_model_has_a_mark_for_files() -> None:
    hole = replace(ADD, context=("one = 1\n", "two = 2"))
    files = "<|file_sep|>elsewhere\none = 1\n<|file_sep|>elsewhere\ntwo = 2\n"
    assert prompt("qwen2.5-coder", hole) == files + prompt("qwen2.5-coder")
    assert prompt("deepseek-coder", hole) == prompt("deepseek-coder")


@pytest.mark.parametrize("name", sorted(known_texts()))
def test_a_file_cannot_spell_the_marks_of_its_prompt(name: str) -> None:
    text = fim_text("", name)
    all_marks = "".join(sorted(text.marks))
    hole = hole_of(f"x = '{all_marks}'\ny = '{all_marks}‸{all_marks}'\n")
    plain = hole_of("x = ''\ny = '‸'\n")
    for mark in (text.prefix, text.suffix, text.middle, *text.ends):
        counts = [prompt("", one, name).count(mark.strip() or "\0") for one in (hole, plain)]
        assert counts[0] == counts[1] <= 1


@pytest.mark.parametrize("name", sorted(known_texts()))
def test_a_server_is_given_four_stops_at_most(name: str) -> None:
    text = fim_text("", name)
    for hole in (ADD, BODY):
        stops = text.stops(Ask(hole=hole, budget=Budget()))
        assert 1 <= len(stops) <= 4
        assert ("\n" in stops) == (hole is ADD)
        assert set(stops) - {"\n"} <= set(text.ends)
