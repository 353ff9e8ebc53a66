"""The released checkpoint's two layouts, with a stand-in for its tokenizer: turns, canvases, and cutting answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from midspan.engine.api import Budget, CheckpointError, Frame, GapKind, Hole
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.engine import Engine, load_infiller
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.prompts.chat import ChatPrompt
from midspan.engine.prompts.overlap import up_to_the_fence
from midspan.engine.prompts.questions import marker
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.chatting import SPECIAL, TEMPLATE, chat_checkpoint, stand_in
from tests.engine.tiny import SOURCE, tiny_checkpoint
from tests.examples import examples

LAYOUTS = ("prompted", "clamped")
PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
WAIT_S = 60
AT = SOURCE.index("item.price > 0") + len("item.pr")
HOLE = Hole(prefix=SOURCE[:AT], suffix=SOURCE[AT + len("ice > 0:") :])


@pytest.fixture(scope="module")
def infillers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Infiller]:
    made = {}
    for layout in LAYOUTS:
        infiller = load_infiller(str(chat_checkpoint(tmp_path_factory.mktemp(layout), kind=layout)), "cpu")
        assert isinstance(infiller, Infiller)
        made[layout] = infiller
    return made


def prompt_of(infillers: dict[str, Infiller], layout: str) -> ChatPrompt:
    prompt = infillers[layout].prompt
    assert isinstance(prompt, ChatPrompt)
    return prompt


def shown(prompt: ChatPrompt, ids: list[int]) -> str:
    """Ids as text, special tokens spelled out."""
    out: str = prompt._tokenizer.decode(ids, skip_special_tokens=False)
    return out


def picture(text: str, kind: GapKind = "rest_of_line") -> Hole:
    """A hole at ‸."""
    prefix, suffix = text.split("‸")
    return Hole(prefix=prefix, suffix=suffix, kind=kind)


@pytest.mark.parity
@pytest.mark.parametrize("request_text", ["Fill it.", "x = 1\n\n    y  = '<turn|>'\nétude ▁ 漢"])
def test_a_request_has_the_tokens_of_the_chat_template(
    infillers: dict[str, Infiller], tmp_path: Path, request_text: str
) -> None:
    prompt = prompt_of(infillers, "prompted")
    prompt._tokenizer.save(str(tmp_path / "tokenizer.json"))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), bos_token="<bos>")
    asked = [{"role": "user", "content": request_text.replace("<turn|>", "")}]
    rendered = theirs.apply_chat_template(
        asked, chat_template=TEMPLATE, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert prompt.question(prompt.encode(request_text.replace("<turn|>", ""))) == rendered
    # An end of turn that the user's text spells is no special token.
    assert prompt.question(prompt.encode(request_text)).count(SPECIAL.index("<turn|>")) == 1


def test_prompted_shows_the_file_and_answers_from_the_gap_s_line_on(infillers: dict[str, Infiller]) -> None:
    prompt = prompt_of(infillers, "prompted")
    layout = prompt.lay_out(HOLE)
    text = shown(prompt, layout.prefix)
    head = SOURCE[SOURCE.rindex("\n", 0, AT) + 1 : AT]
    assert text.startswith("<bos><|turn>user\n<gap> marks a gap in this file.\n\n```python\n")
    assert f"{HOLE.prefix}<gap>{HOLE.suffix}\n```\n\nWrite the gap's line again" in text
    _, answer = text.split("<turn|>\n")
    assert answer + layout.heal == f"<|turn>model\n<|channel>thought\n<channel|>```python\n{head}"
    assert layout.heal
    # An answer writes its closing fence itself; behind a renoised draft the fence is frozen.
    assert shown(prompt, layout.suffix) == "<turn|>"
    drafted = prompt.lay_out(replace(HOLE, draft="ice > 0:", strength=0.5))
    assert shown(prompt, drafted.suffix) == "\n```<turn|>"


def test_clamped_shows_how_the_file_ends_and_answers_with_the_file(infillers: dict[str, Infiller]) -> None:
    prompt = prompt_of(infillers, "clamped")
    layout = prompt.lay_out(HOLE)
    text = shown(prompt, layout.prefix)
    assert text.startswith("<bos><|turn>user\nThis is how a file in python ends:\n\n```python\n" + HOLE.suffix)
    assert text.endswith(
        "<|turn>model\n<|channel>thought\n<channel|>```python\n" + HOLE.prefix.removesuffix(layout.heal)
    )
    assert HOLE.suffix.endswith("\n")
    assert shown(prompt, layout.suffix) == HOLE.suffix + "```<turn|>"
    assert shown(prompt, prompt.lay_out(Hole(prefix="x = ", suffix="\ny")).suffix) == "\ny\n```<turn|>"
    last = prompt.lay_out(Hole(prefix="x = 1\ny", suffix=""))
    assert shown(prompt, last.suffix) == "\n```<turn|>"
    assert "ends" not in shown(prompt, last.prefix)


def test_empty_thinking_can_be_switched_off(tmp_path: Path) -> None:
    chat_checkpoint(tmp_path, kind="prompted", empty_thinking=False)
    prompt = ChatPrompt(tmp_path / "tokenizer.json", read_settings(tmp_path).layout)
    assert "<turn|>\n<|turn>model\n```python\n" in shown(prompt, prompt.lay_out(HOLE).prefix)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_with_code_fences_is_shown_within_longer_ones(infillers: dict[str, Infiller], layout: str) -> None:
    prompt = prompt_of(infillers, layout)
    asked = picture("Text:\n\n‸\n\n````sh\nls\n````\n", "span")
    laid = prompt.lay_out(asked)
    assert shown(prompt, laid.prefix).count("`````python\n") == 2
    assert shown(prompt, laid.suffix).endswith("`````<turn|>" if layout == "clamped" else "<turn|>")
    answer = "```python\ny = 2\n```\n\nEnd"
    closed = answer + ("\n`````" if layout == "prompted" else "")
    assert prompt.text(prompt.encode(laid.heal + closed), laid) == answer


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_draft_is_renoised_and_never_cut_short(tmp_path: Path, layout: str) -> None:
    """Ends of turns are made the likeliest tokens of a random network; a rewrite must not contain them."""
    infiller = load_infiller(str(chat_checkpoint(tmp_path, kind=layout)), "cpu")
    ends = [SPECIAL.index(name) for name in ("<turn|>", "<eos>", "<pad>")]
    assert isinstance(infiller.backend, TorchCanvasBackend)
    with torch.no_grad():
        # The head is the embedding: these tokens are likelier than any other.
        infiller.backend.model.embed_tokens.weight[ends] *= 20.0
    draft = "ice > 0:\n        total += item.price"
    hole = Hole(prefix=HOLE.prefix, suffix="\n    return total\n", kind="span", draft=draft, strength=0.6)
    laid = infiller.prompt.lay_out(hole)
    for seed in range(4):
        ranked = infiller.infill(hole, Budget(steps=2, seed=seed), PATIENT).ranked
        assert {len(one.ids) for one in ranked} == {len(infiller.prompt.encode(laid.heal + draft))}


def test_steps_are_the_checkpoint_s_unless_the_budget_has_fewer(infillers: dict[str, Infiller]) -> None:
    for asked, run in ((None, 16), (3, 3), (40, 16)):
        frames = list[Frame]()
        infillers["prompted"].infill(HOLE, Budget(steps=asked), replace(PATIENT, on_frame=frames.append))
        assert {frame.steps for frame in frames} == {run}


def test_placeholders_of_the_vocabulary_are_banned(tmp_path: Path) -> None:
    """Gemma's placeholders have no flag: they are known by their text."""
    stand_in(file := tmp_path / "tokenizer.json")
    made = json.loads(file.read_text())
    taken = {"re": "<unused7>", "it": "[multimodal]"}
    vocab = {taken.get(token, token): id for token, id in made["model"]["vocab"].items()}
    made["model"] |= {"vocab": vocab, "merges": []}
    file.write_text(json.dumps(made))
    (tmp_path / "midspan.json").write_text('{"layout": {"kind": "prompted"}}')
    prompt = ChatPrompt(file, read_settings(tmp_path).layout)
    assert {vocab["<unused7>"], vocab["[multimodal]"]} < set(prompt.banned)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_context_comes_first_and_long_texts_are_cut(tmp_path: Path, layout: str) -> None:
    chat_checkpoint(tmp_path, kind=layout, context_tokens=60, suffix_tokens=20, prefix_tokens=80)
    prompt = ChatPrompt(tmp_path / "tokenizer.json", read_settings(tmp_path).layout)
    hole = Hole(prefix=SOURCE * 20, suffix="\n" + "s" * 400, context=("def gone(): ..." * 40, "def kept(): ..."))
    text = shown(prompt, prompt.lay_out(hole).prefix)
    assert text.startswith("<bos><|turn>user\nCode of the same project:\n\n```\ndef kept(): ...\n```\n\n")
    assert "gone" not in text
    assert "sssss" in text
    assert text.count("s" * 20) < 3
    assert len(prompt.lay_out(hole).prefix) < 500


def test_the_mark_of_a_gap_does_not_occur_in_the_file() -> None:
    assert marker(Hole(prefix="a", suffix="b")) == "<gap>"
    assert marker(Hole(prefix="<gap>", suffix="<gap1>")) == "<gap2>"


@pytest.mark.parametrize(
    ("hole", "answer", "inserted"),
    [
        ("total = su‸\nprint(total)", "m(items)\n```", "m(items)"),
        ("total = ‸\nprint(total)", "sum(items)\n```\nThat is all.", "sum(items)"),
        ("total = ‸\nprint(total)", "sum(items)\nprint(total)\n```", "sum(items)"),
        ("total = ‸\nprint(total)", "total = sum(items)\n```", "sum(items)"),
        ("total = ‸\nprint(total)", "\n```python\ntotal = sum(items)\n```", "sum(items)"),
        ("print(f(‸))", "x))\n```", "x"),
        ("print(‸, end)", "total, end)", "total"),
        ("a = 1\n‸\nb = 2", "c = 3\n```", "c = 3"),
        ("a = 1\n‸b = 2\n", "c = 3\nb = 2\n```", "c = 3\n"),
        ("name = ‸", "``", "``"),
    ],
)
def test_an_answer_is_cut_to_the_gap(infillers: dict[str, Infiller], hole: str, answer: str, inserted: str) -> None:
    prompt, asked = prompt_of(infillers, "prompted"), picture(hole)
    layout = prompt.lay_out(asked)
    # The canvas repeats what token healing took back.
    assert prompt.text(prompt.encode(layout.heal + answer), layout) == inserted


@pytest.mark.parametrize(
    ("hole", "answer", "inserted"),
    [
        ("def f():\n‸\nprint(f())", "    a = 1\n    return a\nprint(f())\n```", "    a = 1\n    return a"),
        ("def f():\n‸\nprint(f())", "def f():\n    return 1\n```", "    return 1"),
        ("x = 1\n‸\ny = 2", "a = 1\n\nb = 2\n```", "a = 1\n\nb = 2"),
    ],
)
def test_a_span_keeps_its_lines(infillers: dict[str, Infiller], hole: str, answer: str, inserted: str) -> None:
    prompt, asked = prompt_of(infillers, "prompted"), picture(hole, "span")
    layout = prompt.lay_out(asked)
    assert prompt.text(prompt.encode(layout.heal + answer), layout) == inserted


def test_a_clamped_gap_that_echoes_the_suffix_is_cut(infillers: dict[str, Infiller]) -> None:
    prompt = prompt_of(infillers, "clamped")
    layout = prompt.lay_out(picture("total = ‸, end\n"))
    assert prompt.text(prompt.encode(layout.heal + "sum(items), end"), layout) == "sum(items)"
    # Brackets alone may be repeated rightly.
    layout = prompt.lay_out(picture("print(f(‸))\n"))
    assert prompt.text(prompt.encode(layout.heal + "(1))"), layout) == "(1))"


def test_backticks_within_a_line_are_no_fence() -> None:
    assert up_to_the_fence("a\n  b ``` c\n```\nd") == "a\n  b ``` c"


@given(ids=st.lists(st.integers(0, 560), max_size=40), layout=st.sampled_from(LAYOUTS), end=st.booleans())
@examples(60)
def test_special_tokens_never_reach_the_text(
    infillers: dict[str, Infiller], ids: list[int], layout: str, end: bool
) -> None:
    prompt = prompt_of(infillers, layout)
    where = prompt.lay_out(picture("x = ‸\ny = 2"))
    gap = prompt.gap_ids([*prompt.encode(where.heal + "q"), *(token % prompt.vocab_size for token in ids)])
    text = prompt.text(gap, where)
    assert not [token for token in SPECIAL if token in text]
    for token in SPECIAL:
        assert prompt.cell_text(SPECIAL.index(token)) == ""
    ends = {SPECIAL.index(name) for name in ("<turn|>", "<eos>", "<pad>")}
    assert ends.isdisjoint(gap) or layout == "clamped"
    assert ends.isdisjoint(prompt.banned) == (layout == "prompted")
    assert set(prompt.banned) | ends == set(range(len(SPECIAL)))


@pytest.mark.parametrize("kind", ["rest_of_line", "span"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_fill_from_start_to_finish(infillers: dict[str, Infiller], layout: str, kind: GapKind) -> None:
    engine = Engine(infillers[layout], name=layout, load_ms=0.0)
    frames = list[Frame]()
    try:
        hole = Hole(prefix=HOLE.prefix, suffix=HOLE.suffix, kind=kind)
        fill = engine.fill(hole, Budget(steps=3, candidates=3), on_frame=frames.append).result(WAIT_S)
        again = engine.fill(hole, Budget(steps=3, candidates=3)).result(WAIT_S)
    finally:
        engine.close()
    assert (fill.text, fill.steps) == (again.text, again.steps)
    assert [one.text for one in fill.candidates] == [one.text for one in again.candidates]
    # The second fill reads from the cache what the first encodes: logits agree within 1e-4, as in the parity tests, and
    # a confidence moves by at most a quarter of its log-odds.
    for one, other in zip(fill.candidates, again.candidates, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
    assert engine.about.layout == layout
    assert fill.candidates
    assert all(0 < one.confidence < 1 for one in fill.candidates)
    assert kind == "span" or "\n" not in fill.text
    cells = frames[0].cells
    assert {cell.state for cell in cells} <= (
        {"settled", "free"} if layout == "prompted" else {"settled", "free", "frozen"}
    )
    assert any(cell.state == "frozen" for cell in cells) == (layout == "clamped")
    # A clamped fill has scored all lengths in one forward pass before the first step.
    assert frames[-1].step + (layout == "clamped") == fill.steps or kind == "span"


def test_frozen_tokens_are_never_changed(infillers: dict[str, Infiller]) -> None:
    frames = list[Frame]()
    watch = FillObserver(interrupted=lambda: False, late=lambda: False, on_frame=frames.append)
    infillers["clamped"].infill(HOLE, Budget(steps=3), watch)
    for frame in frames:
        frozen = "".join(cell.text for cell in frame.cells if cell.state == "frozen")
        assert len(frozen) > 5
        assert (HOLE.suffix + "```").startswith(frozen)


def test_one_more_key_encodes_only_the_end(infillers: dict[str, Infiller]) -> None:
    """In `clamped` the typed text is last in the prompt; in `prompted` the suffix behind the gap is encoded again."""
    for layout, share in (("clamped", 0.2), ("prompted", 0.9)):
        infiller = infillers[layout]
        infiller.prefix.encode(infiller.prompt.lay_out(HOLE).prefix)
        typed = infiller.prompt.lay_out(Hole(prefix=HOLE.prefix + "ic", suffix=HOLE.suffix)).prefix
        assert infiller.prefix.encode(typed) < share * len(typed)


CLAMPED = {"layout": {"kind": "clamped"}}


class TestSettings:
    def test_a_folder_without_midspan_json_has_the_release_s_settings(self, tmp_path: Path) -> None:
        found = read_settings(chat_checkpoint(tmp_path))
        assert (found.layout.kind, found.layout.filler_id, found.quantize) == ("prompted", -1, "none")
        assert found.show.show_threshold == 0.0
        plan = found.denoise
        assert (plan.t_min, plan.t_max, plan.entropy_bound, plan.confidence_threshold) == (0.4, 0.8, 0.1, 0.005)
        assert isinstance(load_infiller(str(tmp_path), "cpu"), Infiller)

    def test_midspan_json_may_have_only_the_keys_that_differ(self, tmp_path: Path) -> None:
        found = read_settings(chat_checkpoint(tmp_path, kind="clamped", steps=5, slots=[2, 4]))
        assert (found.layout.kind, found.denoise.steps, found.denoise.draws) == ("clamped", 5, 2)
        assert found.layout.slots == (2, 4)

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"layout": {"kind": "prompted", "slots": [8, 16]}}, "layout.slots has 2 lengths; give one"),
            ({"layout": {"kind": "clamped", "filler_id": 3}}, "layout.filler_id is 3; leave it out"),
            (CLAMPED | {"hypotheses": {"length_bias": [1.0]}}, "hypotheses.length_bias has 1 numbers for 20 lengths"),
            (CLAMPED | {"quantize": "fp4"}, 'quantize is "fp4"; give "none" or "fp8" or "int4"'),
            (CLAMPED | {"temperature": 1}, "temperature is an unknown key; known here: layout, denoise, hypotheses,"),
            ({"layout": {"kind": "sideways"}}, 'layout.kind is "sideways"; give "filler" or'),
        ],
    )
    def test_an_unusable_setting_is_named(self, tmp_path: Path, values: dict[str, Any], said: str) -> None:
        (tmp_path / "midspan.json").write_text(json.dumps(values))
        with pytest.raises(CheckpointError) as refused:
            read_settings(tmp_path)
        assert f"{tmp_path / 'midspan.json'}: " in str(refused.value)
        assert said in str(refused.value)

    def test_a_tokenizer_without_turns_is_refused(self, tmp_path: Path) -> None:
        tiny_checkpoint(tmp_path)
        (tmp_path / "midspan.json").unlink()
        with pytest.raises(CheckpointError, match=r"tokenizer\.json: <\|turn> is no special token, as chats need"):
            load_infiller(str(tmp_path), "cpu")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_that_the_tokenizer_lacks_are_never_written(tmp_path: Path, layout: str) -> None:
    infiller = load_infiller(str(chat_checkpoint(tmp_path, more_ids=300, kind=layout)), "cpu")
    assert infiller.prompt.vocab_size == infiller.backend.vocab_size
    known = infiller.prompt.vocab_size - 300
    for seed in range(3):
        ranked = infiller.infill(HOLE, Budget(steps=2, seed=seed), PATIENT).ranked
        assert ranked
        assert all(token < known for one in ranked for token in one.ids)


def test_a_tokenizer_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has \d+ tokens, config\.json \d+; copy both from one"):
        load_infiller(str(chat_checkpoint(tmp_path, more_ids=-5)), "cpu")
