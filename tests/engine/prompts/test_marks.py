"""Prompts with a tokenizer's own FIM marks: laid out as in training, in each model's order, safe from a file's text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

from midspan.engine.api import CheckpointError, GapKind, Hole
from midspan.engine.marks_settings import MarksLayout
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.prompts.templates import templates
from midspan.engine.training.continued.recipes import RowRecipe
from midspan.engine.training.continued.rows import Layout as RowLayout
from midspan.engine.training.continued.rows import RowBuilder
from midspan.engine.training.continued.spans import Gap
from midspan.engine.training.continued.texts import Text
from tests.engine.llama_tiny import SOURCE, tokenizer
from tests.engine.prompts.marked import CONTINUED, prompt_of, spelled, with_marks


def id_of(prompt: MarksPrompt, mark: str) -> int:
    found: int | None = prompt._tokenizer.token_to_id(mark)
    assert found is not None
    return found


@pytest.mark.parametrize("at", [120, 133, 140, 165, 181])
def test_a_hole_is_laid_out_as_in_training(tmp_path: Path, at: int) -> None:
    prompt, end = prompt_of(tmp_path), SOURCE.index("\n", at)
    builder = RowBuilder(Prompt(tmp_path / "tokenizer.json", prefix_tokens=400, filler_id=0), RowRecipe(tokens=768))
    text = Text(language="python", package="p", path="p.py", text=SOURCE)
    order = RowLayout(suffix_first=True, line_behind=True, room=768)
    row = builder.build(text, Gap(begin=at, end=end, kind="rest"), order, SOURCE[end:])
    assert row is not None
    layout = prompt.lay_out(Hole(prefix=SOURCE[:at], suffix=SOURCE[end:]))
    begin = row.ids.index(builder.prefix)
    cut = layout.prefix.index(builder.prefix)
    assert (layout.prefix[cut:], layout.heal) == (row.ids[begin : row.gap], row.heal)
    assert layout.prefix[:begin] == row.ids[:begin]
    assert prompt.text(row.ids[row.gap : -1], layout) == SOURCE[at:end]


def test_the_parts_have_the_model_s_order(tmp_path: Path) -> None:
    hole = Hole(prefix="a = 1\nb = ", suffix="\nc = 3\n")
    qwen = prompt_of(tmp_path, with_marks("qwen2.5-coder"), MarksLayout())
    assert spelled(qwen, qwen.lay_out(hole).prefix) == ("<|fim_prefix|>a = 1\n<|fim_suffix|>\nc = 3\n<|fim_middle|>b =")
    whole = prompt_of(tmp_path, with_marks("qwen2.5-coder"), MarksLayout(line_behind=False))
    assert spelled(whole, whole.lay_out(hole).prefix) == (
        "<|fim_prefix|>a = 1\nb =<|fim_suffix|>\nc = 3\n<|fim_middle|>"
    )
    deepseek = prompt_of(tmp_path, with_marks("deepseek-coder"), MarksLayout())
    assert spelled(deepseek, deepseek.lay_out(hole).prefix).startswith("<｜begin▁of▁sentence｜><｜fim▁begin｜>a = 1\n")
    assert deepseek.lay_out(hole).heal == qwen.lay_out(hole).heal == " "


@pytest.mark.parametrize(
    ("above", "behind"), [(0, 0), (1, 1), (9, 9), (15, 15), (16, 16), (17, 16), (23, 16), (24, 24), (30, 24)]
)
def test_ended_lines_stay_behind_the_middle_mark_up_to_each_eighth(tmp_path: Path, above: int, behind: int) -> None:
    """So that prefix and suffix are the same at most line ends; in a short file only the gap's line stands there."""
    lines = [f"a{number} = {number}\n" for number in range(above)]
    hole = Hole(prefix="".join(lines) + "b = ", suffix="\nc = 3\n")
    qwen = prompt_of(tmp_path, with_marks("qwen2.5-coder"), MarksLayout())
    before, after = "".join(lines[:behind]), "".join(lines[behind:])
    assert spelled(qwen, qwen.lay_out(hole).prefix) == (
        f"<|fim_prefix|>{before}<|fim_suffix|>\nc = 3\n<|fim_middle|>{after}b ="
    )
    # Where nothing follows the prefix, its end may move.
    continued = prompt_of(tmp_path)
    assert spelled(continued, continued.lay_out(hole).prefix).endswith("".join(lines) + "<issue_start>b =")


@pytest.mark.parametrize("name", [name for name, marks in templates().items() if not marks.by_name])
def test_the_template_is_recognised_by_the_tokenizer_s_tokens(tmp_path: Path, name: str) -> None:
    prompt = prompt_of(tmp_path, with_marks(name), MarksLayout())
    assert prompt.marks == templates()[name]


def test_ambiguous_marks_are_used_only_if_their_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"of no model that is known here; give layout\.template") as refused:
        prompt_of(tmp_path, layout=MarksLayout())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (MarksLayout(template="gpt-9"), "layout.template is gpt-9; give one of qwen2.5-coder, "),
        (MarksLayout(template="codellama"), "no token ▁<PRE>, which layout needs; give other marks"),
    ],
)
def test_unknown_templates_and_missing_marks_are_named(tmp_path: Path, layout: MarksLayout, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        prompt_of(tmp_path, layout=layout)


def test_no_text_spells_a_mark_and_no_gap_holds_one(tmp_path: Path) -> None:
    prompt = prompt_of(tmp_path, with_marks("qwen2.5-coder"), MarksLayout())
    known = id_of(prompt, "<|fim_middle|>")
    layout = prompt.lay_out(Hole(prefix="x = '<|fim_middle|>'\ny = ", suffix="\n'<|fim_middle|>'"))
    assert layout.prefix.count(known) == 1
    assert spelled(prompt, layout.prefix).count("<|fim_middle|>") == 3
    assert known in prompt.unwritten
    assert known in prompt.end_ids
    assert prompt.cell_text(known) == ""


def test_ids_that_the_tokenizer_lacks_are_never_written(tmp_path: Path) -> None:
    made = tokenizer()
    made.save(str(tmp_path / "tokenizer.json"))
    prompt = MarksPrompt.open(tmp_path, CONTINUED, made.get_vocab_size() + 5)
    assert set(range(made.get_vocab_size(), prompt.vocab_size)) < set(prompt.unwritten)
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, the network 300; copy both from one checkpoint"):
        MarksPrompt.open(tmp_path, CONTINUED, 300)


@pytest.mark.parametrize(
    ("kind", "text"), [("rest_of_line", "lt = 0"), ("line", "lt = 0"), ("span", "lt = 0\n    return")]
)
def test_a_line_ends_where_its_text_does(tmp_path: Path, kind: GapKind, text: str) -> None:
    prompt = prompt_of(tmp_path)
    layout = prompt.lay_out(Hole(prefix="def f():\n    resu", suffix="\n", kind=kind))
    assert layout.heal == " resu"
    assert prompt.text(prompt.encode(" result = 0\n    return"), layout) == text
    assert prompt.text(prompt.encode(" other"), layout) == ""


@pytest.mark.parametrize("indent", ["    ", "\t\t", "        ", "  \t ", "            "])
@pytest.mark.parametrize("line_behind", [True, False])
def test_the_gap_of_a_whole_line_has_the_tokens_of_a_text(tmp_path: Path, indent: str, line_behind: bool) -> None:
    """Byte-level tokenizers put a line's last blank into its first word."""
    prompt = prompt_of(tmp_path, with_marks("qwen2.5-coder"), MarksLayout(line_behind=line_behind))
    above = "class A:\n    def f(self):\n"
    layout = prompt.lay_out(Hole(prefix=above + indent, suffix="\nx = 1\n"))
    assert layout.heal == indent[-1]
    written = prompt.encode((indent if line_behind else above + indent) + "return")
    cut = len(written) - len(prompt.encode(layout.heal + "return"))
    laid = layout.prefix if line_behind else layout.prefix[: layout.prefix.index(id_of(prompt, "<|fim_suffix|>"))]
    assert laid[-cut:] == written[:cut]
    assert written[cut:] == prompt.encode(layout.heal + "return")


def llama_tokenizer() -> Tokenizer:
    """A tokenizer as Llama's own, which puts a space before every text and removes it in decoding."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    made.train_from_iterator([SOURCE.replace(" ", "▁")], trainer)
    found = json.loads(made.to_str())
    vocabulary: dict[str, int] = found["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    parts: dict[str, Any] = {"vocab": vocabulary, "merges": [tuple(pair) for pair in found["model"]["merges"]]}
    made = Tokenizer(models.BPE(**parts, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    made.add_special_tokens([AddedToken(mark, normalized=False) for mark in templates()["codellama"].needed])
    return made


def test_no_space_is_added_between_the_parts_of_a_text(tmp_path: Path) -> None:
    prompt = prompt_of(tmp_path, llama_tokenizer(), MarksLayout())
    assert prompt.marks == templates()["codellama"]
    for text in ("def f():\n    return 1", "    x", "x", " x"):
        assert prompt.decode(prompt.encode(text)) == text
    layout = prompt.lay_out(Hole(prefix="def f():\n    resu", suffix="\nx = 1\n"))
    behind = layout.prefix[layout.prefix.index(id_of(prompt, "▁<MID>")) + 1 :]
    assert prompt.decode(behind) + layout.heal == "    resu"
    ids = [*behind, *prompt.encode(layout.heal)]
    assert prompt.decode(ids) == "    resu"
