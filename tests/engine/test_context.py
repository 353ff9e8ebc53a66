"""A hole's context in the prompt: before the prefix, in whole snippets, within the checkpoint's limit, and cached."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from midspan.engine.api import Budget, CheckpointError, Hole
from midspan.engine.engine import Engine
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.prompts.prompt import BOS_ID
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.tiny import SOURCE, rewrite_settings, tiny_checkpoint, tiny_infiller

CONTEXT = ("# store.py\ndef load(path):", "import json", "class Shop:\n    def sell(self):")
HOLE = Hole(prefix=SOURCE + "\nx = 1", suffix="\ny = 2\n", context=CONTEXT)
PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
MANY = 1000


@pytest.fixture(scope="module")
def infiller(tmp_path_factory: pytest.TempPathFactory) -> Infiller:
    return tiny_infiller(tmp_path_factory.mktemp("context"), context_tokens=MANY)


def shown(infiller: Infiller, tokens: int) -> str:
    """The text of the context in a prompt with at most `tokens` tokens of context."""
    prompt = infiller.prompt
    prompt._context_tokens, prompt._context = tokens, ((), [])
    without = prompt.lay_out(replace(HOLE, context=()))
    layout = prompt.lay_out(HOLE)
    prompt._context_tokens = MANY
    assert (layout.suffix, layout.heal, layout.append) == (without.suffix, without.heal, without.append)
    begin = len(layout.prefix) - len(without.prefix) + 1
    assert [BOS_ID, *layout.prefix[begin:]] == without.prefix
    assert begin - 1 <= tokens
    return prompt.decode(layout.prefix[1:begin])


def test_context_is_between_bos_and_the_prefix_with_the_most_useful_last(infiller: Infiller) -> None:
    assert shown(infiller, MANY) == "".join(f"{snippet}\n" for snippet in CONTEXT)


def test_snippets_without_room_are_left_out_whole_from_the_front(infiller: Infiller) -> None:
    sizes = [len(infiller.prompt.encode(f"{snippet}\n")) for snippet in CONTEXT]
    texts = [shown(infiller, tokens) for tokens in range(sum(sizes) + 1)]
    assert set(texts) == {"".join(f"{snippet}\n" for snippet in CONTEXT[first:]) for first in range(4)}
    assert [len(text) for text in texts] == sorted(len(text) for text in texts)
    assert texts[sizes[2] - 1 : sizes[2] + 1] == ["", f"{CONTEXT[2]}\n"]


def test_a_checkpoint_without_context_sees_none(tmp_path: Path) -> None:
    prompt = tiny_infiller(tmp_path).prompt
    assert prompt.lay_out(HOLE) == prompt.lay_out(replace(HOLE, context=()))


def test_special_tokens_spelled_out_in_context_stay_text(infiller: Infiller) -> None:
    layout = infiller.prompt.lay_out(replace(HOLE, context=("<filler><eos><bos>",)))
    assert [token for token in layout.prefix if token in infiller.prompt.special_ids] == [BOS_ID]


def test_a_key_encodes_few_tokens_while_the_context_stays(infiller: Infiller) -> None:
    line = "value = [load(path), 1]"
    costs = []
    for typed in range(len(line)):
        before = infiller.prefix.encoded_tokens
        infiller.infill(replace(HOLE, prefix=f"{SOURCE}\n{line[:typed]}"), Budget(), PATIENT)
        costs.append(infiller.prefix.encoded_tokens - before)
    assert costs[0] > 100
    assert max(costs[1:]) < 10


def test_another_context_is_another_prompt(infiller: Infiller) -> None:
    first = infiller.prompt.lay_out(HOLE).prefix
    assert infiller.prompt.lay_out(replace(HOLE, context=CONTEXT[1:])).prefix != first
    assert infiller.prompt.lay_out(HOLE).prefix == first


def test_midspan_json_limits_the_context(tmp_path: Path) -> None:
    file = tiny_checkpoint(tmp_path) / "midspan.json"
    values = json.loads(file.read_text())
    del values["layout"]["context_tokens"]
    file.write_text(json.dumps(values))
    assert read_settings(tmp_path).layout.context_tokens == 0
    rewrite_settings(tmp_path, context_tokens=7)
    assert read_settings(tmp_path).layout.context_tokens == 7
    engine = Engine.load(str(tmp_path), "cpu")
    assert engine.about.context_tokens == 7
    engine.close()
    rewrite_settings(tmp_path, kind="fim")
    with pytest.raises(CheckpointError, match=r"midspan\.json: layout\.context_tokens is 7; give 0, as"):
        read_settings(tmp_path)
