"""What followed the same tokens nearby: found as a plain search finds it, mixed as probabilities are."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, CheckpointError, Hole, Line
from midspan.engine.beams import FillInTheMiddle
from midspan.engine.branches import Branches
from midspan.engine.infill import PATIENT, Infiller
from midspan.engine.recall import LONGEST, Opinion, Recalled, meant, mixed, weights
from midspan.engine.settings import SIGNS, Recall, read_settings
from midspan.engine.training.recall import Mixture, Token, fit, fit_folder
from tests.engine.tiny import tiny_checkpoint, tiny_infiller

VOCAB = 6
NONE = torch.zeros(VOCAB, dtype=torch.bool)
# Believed whatever the network says; never believed.
BLIND = Recall(longest=(50.0, *[0.0] * (SIGNS - 1)), last=(-50.0, *[0.0] * (SIGNS - 1)))
DEAF = Recall(longest=BLIND.last, last=BLIND.last)

ids = st.lists(st.integers(0, VOCAB - 1), max_size=12)


def searched(before: list[int], others: list[list[int]], gap: list[int], allowed: set[int]) -> list[Opinion]:
    """The opinions by a search in every text at every place."""
    written, found = [*before, *gap], dict[int, Counter[int]]()
    for text in (before, *others):
        for place in range(1, len(text)):
            order = 0
            while order < min(LONGEST, place, len(written)) and text[place - 1 - order] == written[-1 - order]:
                order += 1
            if order and text[place] in allowed:
                found.setdefault(order, Counter())[text[place]] += 1
    if not found:
        return []
    longest, last = max(found), sum(found.values(), Counter[int]())
    said = [(longest, found[longest]), (1, last)] if longest > 1 else [(1, last)]
    return [opinion(order, dict(count)) for order, count in said]


def opinion(order: int, counts: dict[int, int]) -> Opinion:
    tokens = sorted(counts)
    return Opinion(order=order, ids=np.array(tokens), counts=np.array([counts[token] for token in tokens]))


def plain(opinions: tuple[Opinion, ...] | list[Opinion]) -> list[tuple[int, dict[int, int]]]:
    return [(one.order, dict(zip(one.ids.tolist(), one.counts.tolist(), strict=True))) for one in opinions]


@given(ids, st.lists(ids, max_size=3), ids, st.sets(st.integers(0, VOCAB - 1)))
def test_matches_are_those_of_a_plain_search(
    before: list[int], others: list[list[int]], gap: list[int], allowed: set[int]
) -> None:
    mask = torch.tensor([token in allowed for token in range(VOCAB)])
    found = Recalled(before, others, VOCAB).after(tuple(gap), meant(mask, NONE))
    if before or gap:
        assert plain(found) == plain(searched(before, others, gap, allowed))
    else:
        assert found == ()


def test_what_ends_a_gap_is_one_thing() -> None:
    stops = torch.tensor([False, True, False, True, False, False])
    recalled = Recalled([5, 1, 5, 3, 5, 4, 5], [], VOCAB)
    [said] = recalled.after((), meant(~NONE, stops))
    assert plain([said]) == [(1, {1: 2, 4: 1})]


def distribution(seed: int, rows: int, forbidden: int) -> torch.Tensor:
    values = torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed))
    values[:, forbidden] = -torch.inf
    return values.log_softmax(dim=-1)


@given(st.integers(0, 99), ids, ids, st.floats(-3, 3), st.floats(-3, 3))
def test_a_mixture_is_a_distribution_over_what_is_allowed(
    seed: int, before: list[int], other: list[int], longest: float, last: float
) -> None:
    stops = torch.tensor([False, True, True, False, False, False])
    recall = Recall(longest=(longest,) * SIGNS, last=(last,) * SIGNS)
    values, gaps = distribution(seed, 3, forbidden=4), [(), (0,), (3, 0)]
    recalled, own = Recalled(before, [other], VOCAB), values.exp()
    out = mixed(values.clone(), gaps, stops, recalled, recall).exp()
    torch.testing.assert_close(out.sum(dim=-1), torch.ones(3), atol=1e-4, rtol=0.0)
    assert not bool(out[:, 4].any())
    meaning = meant(own[0] > 0, stops)
    for row, gap in enumerate(gaps):
        said = recalled.after(gap, meaning)
        end = float(own[row, stops].sum())
        share, *shares = weights(said, max(end, float(own[row, ~stops].max())), recall)
        expected = share * own[row]
        for weight, one in zip(shares, said, strict=True):
            expected[one.ids] += torch.tensor(weight * one.shares, dtype=torch.float32)
        torch.testing.assert_close(out[row], expected, atol=1e-4, rtol=0.0)


def test_where_nothing_is_recalled_the_network_is_alone() -> None:
    values = distribution(1, 1, forbidden=0)
    assert torch.equal(mixed(values.clone(), [(2,)], NONE, Recalled([3], [], VOCAB), BLIND), values)


def test_weights_are_shares_and_follow_their_signs() -> None:
    said = opinion(3, {1: 2, 4: 2}), opinion(1, {1: 2, 4: 3, 5: 1})
    assert said[0].signs(0.5) == pytest.approx((1, 3, math.log(4), 0.5, math.log(0.5), 0.5, 0.0))
    assert opinion(2, {7: 3}).signs(0.1)[-1] == pytest.approx(math.log(3))
    assert weights(said, 0.5, Recall(longest=(0.0,) * SIGNS, last=(0.0,) * SIGNS)) == pytest.approx([1 / 3] * 3)
    assert weights(said, 0.5, BLIND) == pytest.approx([0.0, 1.0, 0.0])
    assert weights([], 0.5, BLIND) == [1.0]


HOLE = Hole(prefix="alpha = beta(gamma)\ndelta = 1\nalpha = ", suffix="\nomega = 2\n", kind="rest_of_line")


def written(infiller: Infiller, hole: Hole) -> str:
    """The likeliest beam's text."""
    out = infiller.infill(hole, Budget(), PATIENT)
    best = max(out.rivals.beams.values(), key=lambda beam: beam.log_probability)
    return infiller.prompt.text(list(best.ids), out.layout)


def with_recall(infiller: Infiller, recall: Recall | None) -> Infiller:
    infiller.settings = replace(infiller.settings, recall=recall)
    infiller.reset()
    return infiller


def test_a_beam_goes_on_as_the_text_near_by_does(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path, beams=2, slots=(16,))
    assert written(with_recall(infiller, BLIND), HOLE) == "beta(gamma)"
    assert written(with_recall(infiller, DEAF), HOLE) == written(with_recall(infiller, None), HOLE) != "beta(gamma)"


def test_a_beam_goes_on_as_lines_of_other_files_do_and_with_what_is_typed(tmp_path: Path) -> None:
    infiller = with_recall(tiny_infiller(tmp_path, beams=2, slots=(16,)), BLIND)
    hole = Hole(prefix="x = 1\nzeta = ", suffix="\n", kind="rest_of_line")
    lines = (Line("zeta = eta(theta)", "", ""), Line("other = 3", "", ""))
    assert written(infiller, replace(hole, elsewhere=lines)) == "eta(theta)"
    typed = replace(hole, prefix="x = 1\nzeta = et", elsewhere=lines)
    assert written(infiller, typed) == "a(theta)"


def test_text_beyond_the_prompt_is_searched_too(tmp_path: Path) -> None:
    infiller = with_recall(tiny_infiller(tmp_path, beams=2, slots=(16,), prefix_tokens=64), BLIND)
    far = replace(HOLE, prefix="alpha = beta(gamma)\n" + "delta = 1\n" * 60 + "alpha = ")
    layout = infiller.prompt.lay_out(far)
    assert "beta" not in infiller.prompt.decode(layout.prefix)
    assert infiller.prompt.decode([*layout.beyond, *layout.prefix]) + layout.heal == far.prefix
    assert written(infiller, far) == "beta(gamma)"


def test_a_gap_is_read_as_the_search_that_wrote_it_with_what_it_recalls(tmp_path: Path) -> None:
    infiller = tiny_infiller(tmp_path, beams=4)
    fim = FillInTheMiddle(infiller.model, infiller.prompt, Recall(longest=(0.3,) * SIGNS, last=(0.1,) * SIGNS))
    layout = infiller.prompt.lay_out(HOLE)
    fim.encode(layout)
    with torch.inference_mode():
        branches = Branches(infiller.model, fim.prefix.memory)
        *_, (_, ended) = fim.steps(branches, layout, HOLE.kind, 4, 8)
        branches.drop()
        read = {beam.ids: beam for beam in fim.read(layout, HOLE.kind, [beam.ids for beam in reversed(ended)])}
    assert len({len(beam.ids) for beam in ended}) > 1
    for beam in ended:
        assert read[beam.ids].values == pytest.approx(beam.values, abs=1e-3)
        assert read[beam.ids].end == pytest.approx(beam.end, abs=1e-3)


def token(own: float, said: float, *, order: int) -> Token:
    return Token(own=own, said=(said,), signs=((1.0, float(order), *[0.0] * (SIGNS - 2)),))


def test_the_fit_believes_long_matches_that_were_right_and_no_others() -> None:
    tokens = [token(0.1, 1.0, order=6)] * 40 + [token(0.1, 0.0, order=1)] * 40
    mixture = Mixture(tokens)
    found = fit(mixture)
    assert float(mixture.nats(found)) < mixture.alone / 1.8
    recall = Recall(longest=tuple(found[0].tolist()), last=tuple(found[1].tolist()))
    [_, sure] = weights([opinion(6, {1: 1})], 1.0, recall)
    [_, unsure] = weights([opinion(1, {1: 1})], 1.0, recall)
    assert sure > 0.9
    assert unsure < 0.1


def test_a_mixture_is_made_of_tokens_as_the_engine_mixes_them() -> None:
    said = opinion(3, {1: 3, 2: 1}), opinion(1, {1: 1, 2: 3})
    recall = Recall(longest=(0.2,) * SIGNS, last=(-0.1,) * SIGNS)
    own, longest, last = weights(said, 0.4, recall)
    one = Token(own=0.3, said=(0.75, 0.25), signs=tuple(each.signs(0.4) for each in said))
    nats = Mixture([one]).nats(torch.tensor([recall.longest, recall.last]))
    assert float(nats) == pytest.approx(-math.log(own * 0.3 + longest * 0.75 + last * 0.25), abs=1e-5)
    assert Mixture([one]).alone == pytest.approx(-math.log(0.3))


def test_the_fit_is_written_where_the_engine_reads_it(tmp_path: Path) -> None:
    file = tiny_checkpoint(tmp_path) / "midspan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"beams": 2}))
    text = "alpha = beta(gamma)\ndelta = one\n" * 6
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"text": text}) + "\n")
    row = fit_folder(tmp_path, tmp_path / "heldout.jsonl", 12, 0)
    found = read_settings(tmp_path).recall
    assert found is not None
    assert {name: list(numbers) for name, numbers in asdict(found).items()} == {
        name: list(numbers)
        for name, numbers in dict(row["recall"]).items()  # type: ignore[call-overload]
    }
    # A random network knows nothing, and the text repeats itself.
    assert float(str(row["nats"])) < float(str(row["nats_alone"])) / 1.5


@pytest.mark.parametrize("wrong", [{"longest": [1.0]}, [1, 2], {"longest": [0.0] * SIGNS, "last": [0.0]}, 3])
def test_weights_of_another_form_are_refused(tmp_path: Path, wrong: object) -> None:
    file = tiny_checkpoint(tmp_path) / "midspan.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"recall": wrong}))
    with pytest.raises(CheckpointError, match="recall is not two lists of 7 weights; fit it again or leave it out"):
        read_settings(tmp_path)
