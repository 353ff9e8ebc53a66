"""The members that a server's router has, and its validation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from midspan.engine.api import Budget
from midspan.server.backends.configured import NOTHING, Configured, configured_by
from midspan.server.backends.engines import Parses, engine_named, local_members, router_over
from midspan.server.commands.errors import CommandError
from midspan.server.router.policy import policy_of
from midspan.server.router.router import Means
from midspan.server.text.syntax_check import load_with_syntax
from tests.engine.tiny import rewrite_settings, tiny_checkpoint
from tests.server.router.fakes import BETWEEN, LINE_END, fill_of
from tests.server.scripted import ScriptedEngine

THERE = {"name": "there", "kind": "llama-server", "address": "http://127.0.0.1:9"}


def test_without_a_configuration_there_is_one_engine_and_nothing_of_others() -> None:
    router = router_over(ScriptedEngine(), NOTHING)
    assert [seat.member.name for seat in router.seats] == ["diffusion"]
    assert not router.chooses
    router.close()


@pytest.mark.parametrize(("layout", "own"), [("fim", "autoregressive"), ("canvas", "diffusion")])
def test_the_checkpoints_own_reading_takes_part_whatever_the_policy_adds(layout: str, own: str) -> None:
    engine = ScriptedEngine()
    engine.about = replace(engine.about, layout=layout)
    members = local_members(engine, policy_of({"both_readings": False}))
    assert [member.name for member in members] == [own]


def test_engines_that_are_configured_are_connected_in_the_background() -> None:
    waiting = list[Callable[[], None]]()
    router = router_over(
        ScriptedEngine(), configured_by({"backends": [THERE]}, "editor", "here"), Means(background=waiting.append)
    )
    assert [(seat.member.name, seat.engine is None) for seat in router.seats] == [("diffusion", False), ("there", True)]
    assert len(waiting) == 1
    assert "midspan.engine.remote" in sys.modules
    router.close()


def test_what_breaks_the_syntax_is_not_valid() -> None:
    parses = Parses()
    assert parses(LINE_END, fill_of("sum(")) == "it breaks the syntax"
    assert parses(LINE_END, fill_of("sum(a)")) is None
    assert parses(BETWEEN, fill_of("a = 1\n    b = (")) == "it breaks the syntax"


def test_what_is_judged_is_what_would_be_offered() -> None:
    closed = replace(LINE_END, prefix="x = foo(", suffix=")\n")
    assert Parses()(closed, fill_of("a, b)")) is None
    # Nothing of it would be offered.
    assert Parses()(closed, fill_of(")")) is None


def test_between_lines_that_do_not_parse_nothing_is_held_against_a_fill() -> None:
    unfinished = type(LINE_END)(prefix="total = ", suffix="\ntotal = \ntotal = \n")
    assert Parses()(unfinished, fill_of("sum(a)")) is None


def test_a_name_that_nobody_has_is_one_line() -> None:
    configured = configured_by({"backends": [THERE]}, "configuration", "here")
    with pytest.raises(CommandError, match=r"--engine big: no engine has this name; .* diffusion, auto.*there"):
        engine_named("big", ScriptedEngine, configured)
    assert engine_named("diffusion", ScriptedEngine, configured).about.checkpoint == "scripted"


def test_a_policy_merges_tables_key_by_key() -> None:
    policy = policy_of({"cost": {"there": 5}, "hedge": {"on": False}, "both_readings": True})
    assert policy.cost["there"] == 5
    assert policy.cost["public"] == 10
    assert not policy.hedge.on
    assert policy.hedge.left == pytest.approx(1 / 3)


UNCONFIGURED = """
import os
import subprocess
import sys
opened = []
sys.addaudithook(lambda event, _: opened.append(event) if event.split(".")[0] == "socket" else None)
from midspan.server.backends.configured import NOTHING
from midspan.server.backends.engines import router_over
from tests.server.router.fakes import LINE_END
from tests.server.scripted import ScriptedEngine
from midspan.engine.api import Budget
import midspan.server.app
opened.clear()
router = router_over(ScriptedEngine(), NOTHING)
assert router.fill(LINE_END, Budget()).result(60).candidates
router.close()
assert opened == [], opened
assert not {"httpx2", "midspan.engine.remote", "midspan.server.backends.remotes"} & set(sys.modules)
"""


def test_without_a_configuration_no_socket_is_opened_and_no_client_imported() -> None:
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root)])}
    subprocess.run([sys.executable, "-c", UNCONFIGURED], env=environment, timeout=100, check=True)


def test_both_readings_of_one_checkpoint_take_part_if_the_policy_says_so(tmp_path: Path) -> None:
    rewrite_settings(tiny_checkpoint(tmp_path), beams=3)
    both = Configured(policy=policy_of({"both_readings": True}))
    router = router_over(load_with_syntax(str(tmp_path), "cpu"), both)
    fills = [router.fill(hole, Budget()).result(60) for hole in (LINE_END, replace(LINE_END, suffix=")\n"))]
    assert [fill.engine for fill in fills] == ["autoregressive", "diffusion"]
    assert router.about.languages == ("python",)
    router.close()
