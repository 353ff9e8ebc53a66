"""A folder of the llama family in the engine against transformers' classes: logits, cache, greedy text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from midspan.engine.api import Budget, GapKind, Hole
from midspan.engine.backends.plain import TorchBackend
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.left_to_right import LeftToRight
from midspan.engine.llama import LlamaConfig
from midspan.engine.marks_settings import read_marks_settings
from midspan.engine.prefix_cache import PrefixCache
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.weights.load import read_config
from midspan.engine.weights.load_llama import read_llama
from tests.engine.llama_tiny import SOURCE, marked_checkpoint

pytestmark = pytest.mark.parity
# As in test_llama.py: float32 sums of some hundred products in another order, over 4 layers.
TOLERANCE = 1e-4
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3", "head_dim": 16},
}
HOLE = Hole(prefix=SOURCE + "def total_area(items, tax):\n    resu", suffix="\n    for item in items:\n")


def open_both(folder: Path, **changes: Any) -> tuple[LeftToRight, Any]:
    """Our fill path in float32 and transformers' class, from one folder."""
    marked_checkpoint(folder, **changes)
    config, settings = LlamaConfig.from_json(read_config(folder)), read_marks_settings(folder / "midspan.json")
    backend = TorchBackend(read_llama(folder, config).network(config, torch.float32, torch.device("cpu")))
    ours = LeftToRight(backend, MarksPrompt.open(folder, settings.layout, config.vocab_size), settings)
    return ours, transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=list(FAMILIES))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LeftToRight, Any]:
    return open_both(tmp_path_factory.mktemp("family"), **request.param)


def test_logits_behind_a_cache_are_those_of_transformers(both: tuple[LeftToRight, Any]) -> None:
    ours, theirs = both
    ids = ours.prompt.lay_out(HOLE).prefix
    for begins in ((0,), (0, 5, 6, 40)):
        cache = ours.backend.new_cache()
        with torch.inference_mode():
            parts = [ids[begin:end] for begin, end in zip(begins, [*begins[1:], len(ids)], strict=True)]
            hidden = torch.cat([ours.backend.prefill(torch.tensor([part]), cache) for part in parts], dim=1)
            found = ours.backend.logits(hidden)
            torch.testing.assert_close(found, theirs(torch.tensor([ids])).logits, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_prefix_cache_cut_back_to_the_common_beginning_gives_the_right_logits(both: tuple[LeftToRight, Any]) -> None:
    ours, theirs = both
    kept = PrefixCache(ours.backend, chunk=16)
    texts = [HOLE.prefix, HOLE.prefix + "lt = ", HOLE.prefix[:-2], HOLE.prefix + "\n", "def mean():\n" + SOURCE]
    encoded = []
    for text in texts:
        ids = ours.prompt.lay_out(Hole(prefix=text, suffix=HOLE.suffix)).prefix
        encoded.append((kept.encode(ids), len(ids)))
        with torch.inference_mode():
            logits = theirs(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(ours.backend.logits(kept.last_hidden), logits, atol=TOLERANCE, rtol=TOLERANCE)
    # Typing in a line changes only the end of the prompt.
    assert encoded[0][0] == encoded[0][1]
    assert [count < 12 for count, _ in encoded] == [False, True, True, True, False]


def test_greedy_text_is_that_of_transformers(both: tuple[LeftToRight, Any]) -> None:
    ours, theirs = both
    ids = ours.prompt.lay_out(HOLE).prefix
    told = theirs.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
    cache, made, more = ours.backend.new_cache(), list[int](), ids
    for _ in range(24):
        with torch.inference_mode():
            more = [int(ours.backend.logits(ours.backend.prefill(torch.tensor([more]), cache))[0, -1].argmax())]
        made += more
    assert made == told[0, len(ids) :].tolist()


@pytest.mark.parametrize("kind", ["line", "span"])
def test_a_fill_is_the_greedy_text_among_allowed_ids(both: tuple[LeftToRight, Any], kind: GapKind) -> None:
    ours, theirs = both
    hole = Hole(prefix=HOLE.prefix, suffix=HOLE.suffix, kind=kind)
    out = ours.infill(hole, Budget(), PATIENT)
    rules, ids = ours.fim.rules(out.layout, kind), list(out.layout.prefix)
    assert out.ranked
    for place, token in enumerate(out.ranked[0].ids):
        with torch.inference_mode():
            logits = theirs(torch.tensor([ids])).logits[0, -1]
        assert int(logits.masked_fill(~(rules.inner if place else rules.first), -torch.inf).argmax()) == token
        ids.append(token)


def test_log_probabilities_are_those_of_transformers(both: tuple[LeftToRight, Any]) -> None:
    ours, theirs = both
    out = ours.infill(HOLE, Budget(candidates=4), PATIENT)
    rules, begin = ours.fim.rules(out.layout, HOLE.kind), out.layout.prefix
    assert len(out.ranked) == 4
    for one in out.ranked:
        with torch.no_grad():
            logits = theirs(torch.tensor([[*begin, *one.ids]])).logits[0, len(begin) - 1 :]
        logits[0, ~rules.first] = -torch.inf
        logits[1:, ~(rules.inner | rules.stops)] = -torch.inf
        read = logits.log_softmax(dim=-1)
        values = [float(read[row, token]) for row, token in enumerate(one.ids)]
        end = float(read[-1, rules.stops].logsumexp(dim=-1))
        # Some ten tokens, each within TOLERANCE.
        assert one.log_probability == pytest.approx(sum(values) + end, abs=12 * TOLERANCE)
