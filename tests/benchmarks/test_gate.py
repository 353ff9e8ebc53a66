"""The gate's table, its object for the record, its exit code, and what it says where nothing can be compared."""

from __future__ import annotations

import json

import pytest

from benchmarks.comparing.checkouts import Side
from benchmarks.comparing.plan import QUICK, Work
from benchmarks.comparing.rounds import MEASURES, P50, PASSED, Tally
from benchmarks.comparing.verdicts import Compared, Sums, compare
from benchmarks.gate import QUICK_TAKES, arguments_of, as_object, lines, main

SIDES = (Side("v1, 123456789", (), ()), Side("checkpoint mine", (), ()))


def compared(b_ms: float) -> list[Compared]:
    gaps = [(Sums(1, 1), Sums(1, 1))] * 3 + [(Sums(1, 1), Sums(0, 1))]
    rounds = [(Sums(20.0 + jitter, 1), Sums(b_ms + jitter, 1)) for jitter in range(9)]
    return compare({PASSED: gaps, P50: rounds}, 0)


def test_the_table_has_a_line_for_each_measure_with_its_verdict() -> None:
    found = list(lines(SIDES, compared(30.0), 3.14))
    assert found[:2] == ["A  v1, 123456789", "B  checkpoint mine"]
    passed, p50 = found[3:5]
    assert " ".join(passed.split()) == "pass@1 100.00 75.00 -25.00 (-75.00 to +0.00) % 1.000 no difference"
    assert " ".join(p50.split()) == "keystroke p50 24.00 34.00 +10.00 (+10.00 to +10.00) ms 0.008 worse"
    assert "pass@1: 1 of 4 functions differ" in found
    assert sum("unknown on this system" in line for line in found) == len(MEASURES) - 2
    assert found[-1] == "took 3.1 minutes"


@pytest.mark.parametrize(("b_ms", "code"), [(30.0, 1), (20.0, 0), (10.0, 0)])
def test_the_exit_code_is_one_if_something_is_worse(
    b_ms: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def compare_sides(sides: tuple[Side, Side], work: Work, seed: int) -> Tally:
        """Both sides ran in no time."""
        assert len(work.rounds) == QUICK.rounds
        tally = Tally()
        for number in range(len(work.rounds)):
            for side, ms in enumerate((20.0, b_ms)):
                tally.add(P50, f"round {number}", side, (ms, 1))
        return tally

    monkeypatch.setattr("benchmarks.gate.compare_sides", compare_sides)
    assert main(["embedded", "embedded", "--quick"]) == code
    out, err = capsys.readouterr()
    assert out.startswith("A  checkpoint embedded\nB  checkpoint embedded\n")
    assert err == f"gate: this takes about {QUICK_TAKES} on two cores\n"
    assert main(["embedded", "embedded", "--quick", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["measures"]["keystroke p50"]["b"] == b_ms


def test_the_object_names_both_sides_and_every_figure() -> None:
    row = json.loads(as_object(SIDES, compared(30.0), arguments_of(["A", "B", "--quick"])))
    assert (row["a"], row["b"], row["checkpoint"], row["quick"]) == (SIDES[0].words, SIDES[1].words, "embedded", True)
    assert row["measures"]["keystroke p50"]["verdict"] == "worse"
    assert row["measures"]["keystroke p50"]["unit"] == "ms"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/such/side", "HEAD"], "gate: no/such/side: no git revision"),
        (["embedded", "embedded", "--tasks", "none.jsonl"], "gate: none.jsonl: No such file"),
    ],
)
def test_what_cannot_be_compared_is_said_and_is_another_exit_code(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1].startswith(said)) == ("", True)
