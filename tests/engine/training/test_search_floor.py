"""The fit of the search floor: the bounds that give most gaps up and lose few that are shown and right."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from midspan.engine.hypotheses.beam_search import Beam
from midspan.engine.hypotheses.hypothesis import Proposals
from midspan.engine.settings import SearchFloor
from midspan.engine.training.holes import HeldOut
from midspan.engine.training.search_floor import EVIDENCE, LOG_PROBS, Seen, fit, fit_folder, lost, passed
from midspan.engine.weights.midspan_json import read_settings
from tests.engine.tiny import rewrite_settings, tiny_checkpoint


def seen(nats: float, evidence: float, *, shown: bool, right: bool) -> Seen:
    """A gap with one beam and one similar line."""
    beam = Beam(ids=(9,), values=(nats,), end=0.0)
    return Seen(proposals=Proposals(similar_lines={(7,): evidence}, beams={(9,): beam}), shown=shown, right=right)


GOOD = [seen(-0.5, 0.0, shown=True, right=True), seen(-9.0, 2.6, shown=True, right=True)]
POOR = [seen(-4.5, 1.2, shown=False, right=False)] * 8
WRONG = [seen(-4.5, 1.2, shown=True, right=False)] * 2


def test_a_gap_without_proposals_reaches_no_floor() -> None:
    assert Proposals().reach(None)
    assert not Proposals().reach(SearchFloor(log_prob=-100.0, evidence=-100.0))


def test_the_bounds_let_the_fewest_pass_that_lose_nothing_right() -> None:
    bounds = fit([*GOOD, *POOR, *WRONG], 0.0)
    assert passed([*GOOD, *POOR, *WRONG], bounds) == 2 / 12
    assert lost(GOOD, bounds, right=True) == 0
    # Gaps that are shown and wrong may be given up.
    assert lost([*GOOD, *WRONG], bounds, right=False) == 1 / 2
    assert lost([*GOOD, *WRONG], bounds, right=True) == 0


def test_a_right_gap_with_poor_proposals_lowers_the_floor_unless_it_may_be_lost() -> None:
    faint = seen(-4.5, 1.2, shown=True, right=True)
    gaps = [*GOOD, *POOR, faint]
    assert passed(gaps, fit(gaps, 0.0)) == 1
    assert passed(gaps, fit(gaps, 0.34)) == 2 / 11


def test_if_no_bounds_keep_the_right_gaps_the_widest_are_taken() -> None:
    assert fit([seen(-50.0, 0.0, shown=True, right=True)], 0.0) == SearchFloor(
        log_prob=LOG_PROBS[-1], evidence=EVIDENCE[0]
    )


def test_the_fit_is_written_where_the_engine_reads_it(tmp_path: Path) -> None:
    rewrite_settings(tiny_checkpoint(tmp_path), beams=2)
    text = "x = 1\nab\n" * 6
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"text": text}) + "\n")
    row = fit_folder(tmp_path, HeldOut(file=tmp_path / "heldout.jsonl", count=6, seed=0), 0.01, judge=None)
    floor = read_settings(tmp_path).show.search_floor
    assert floor is not None
    assert asdict(floor) == row["search_floor"]
    # A random network fills no gap right.
    assert (row["holes"], row["lost_of_right"]) == (6, 0.0)
