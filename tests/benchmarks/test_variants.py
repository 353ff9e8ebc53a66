"""variants.py: the rest of a fill behind a key that differs from it, and a real run on a tiny checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import variants
from benchmarks.variants import Begun, Gap, Warm, behind
from midspan.engine.api import Hole
from midspan.engine.canvas import Plan, Rng
from midspan.engine.denoise import Step
from midspan.engine.infill import Infiller
from tests.engine.tiny import SOURCE, tiny_checkpoint

BEHIND = [
    # the true text, a fill that differs from it, the text typed up to the first difference, the rest of the fill
    ("total + tax)", "total - tax)", "total +", " tax)"),
    ("bazaar(x)", "bar(x)", "baz", "(x)"),
    ("(a, b)", "[a, b]", "(", "a, b]"),
    ("name.upper()", "names", "name.", None),  # nothing of the fill is left behind the word
    ("return x", "return x", None, None),
    ("return x", "return x + 1", None, None),
    ("return", "", None, None),
    ("x)", "xy)", "x)", None),  # nothing is missing any more
]


@pytest.mark.parametrize(("truth", "fill", "typed", "left"), BEHIND)
def test_the_rest_of_a_fill_begins_behind_the_first_key_that_differs(
    truth: str, fill: str, typed: str | None, left: str | None
) -> None:
    found = behind(Gap(Hole(prefix="y = ", suffix="\n", kind="line"), truth), fill)
    if left is None:
        assert found is None
    else:
        assert typed is not None
        assert found == Gap(Hole(prefix=f"y = {typed}", suffix="\n", kind="rest_of_line"), truth[len(typed) :], left)


def test_warm_canvases_begin_with_the_given_ids_and_go_on_with_noise() -> None:
    cold, warm = Rng(3), Warm(Rng(3), [7, 8, 9])
    first, begun = cold.noise((2, 5), 100), warm.noise((2, 5), 100)
    assert begun[:, :3].tolist() == [[7, 8, 9]] * 2
    assert torch.equal(begun[:, 3:], first[:, 3:])
    assert torch.equal(cold.noise((2, 5), 100), warm.noise((2, 5), 100))
    rows = torch.softmax(torch.arange(12.0).view(3, 4), dim=-1)
    assert torch.equal(cold.sample(rows), warm.sample(rows))
    assert Warm(Rng(3), [7, 8, 9]).noise((1, 2), 100).tolist() == [[7, 8]]


def test_a_run_tries_every_variant_on_the_same_gaps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, file = tiny_checkpoint(tmp_path), tmp_path / "heldout.jsonl"
    file.write_text(json.dumps({"package": "p", "path": "a.py", "text": SOURCE}) + "\n")
    started, plain = list[bool](), Infiller.__init__

    def listening(infiller: Infiller, *arguments: Any) -> None:
        plain(infiller, *arguments)
        bind = infiller.backend.bind

        class Listening(Begun):
            def steps(self, plan: Plan, rng: Rng) -> Iterator[Step]:
                started.append(isinstance(rng, Warm))
                return self._canvases.steps(plan, rng)

        infiller.backend.bind = lambda cache, canvas: Listening(bind(cache, canvas), [])  # type: ignore[method-assign]

    monkeypatch.setattr(Infiller, "__init__", listening)
    # With a syntax check, fills that do not parse would be renoised.
    monkeypatch.setattr(variants, "SyntaxJudge", lambda: None)
    wanted = [{}, {"warm": True, "denoise": {"steps": 1}}, {"denoise": {"steps": 1}}]
    argv = [str(folder), "--heldout", str(file), "--holes", "12", "--divergent", *map(json.dumps, wanted)]
    assert variants.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["divergent"], found["holes"] > 0) == (True, True)
    assert [tried["variant"] for tried in found["variants"]] == wanted
    assert [tried["steps_mean"] for tried in found["variants"][1:]] == [1, 1]
    assert all(0 <= tried["exact"] <= tried["any"] <= 1 for tried in found["variants"])
    # First the fills that keys differ from, then each variant's.
    assert started[-found["holes"] :] == [False] * found["holes"]
    assert started[-2 * found["holes"] : -found["holes"]] == [True] * found["holes"]
    assert not any(started[: -2 * found["holes"]])


def test_warm_canvases_are_refused_where_steps_are_captured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "TritonBackend", object)
    argv = [str(tiny_checkpoint(tmp_path)), "--heldout", "none", '{"denoise": {"steps": 1}}', '{"warm": true}']
    with pytest.raises(SystemExit, match="draw their own noise"):
        variants.main(argv)
