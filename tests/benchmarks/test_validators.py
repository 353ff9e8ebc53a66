"""The damage that the benchmark of validators does, and its table."""

from __future__ import annotations

import random
import sys

import pytest

from benchmarks.validators import Damage, Gap, dropped_cell, main, misspelt, other_type, unknown_key
from tests.server.pictures import cut


def gap(picture: str) -> Gap:
    before, text, after = cut(picture)
    return Gap(uri="file:///a", language="", before=before, text=text, after=after)


@pytest.mark.parametrize(
    ("damage", "picture", "damaged"),
    [
        (misspelt, "value = 1\n├print(x.value)┤\n", "printt(x.value)"),
        (misspelt, "value = 1\n├other = value  # print┤\n", "other = valuee  # print"),
        (misspelt, "val├ue┤ = print\n", None),
        (misspelt, "├x = (┤\n", None),
        (other_type, '{├"port": 80┤}', '"port": "text"'),
        (other_type, '{├"host": "a", ┤}', '"host": 12, '),
        (other_type, '{├"retries": null┤}', None),
        (unknown_key, '{├"mode": "fast"┤}', '"modee": "fast"'),
        (unknown_key, '{├"cpu": 1┤}', None),
        (dropped_cell, "├| a | b |┤", "| a |"),
        (dropped_cell, "├a┤", None),
    ],
)
def test_damage(damage: Damage, picture: str, damaged: str | None) -> None:
    assert damage(random.Random(0), gap(picture)) == damaged


def test_the_table_has_a_line_for_the_true_text_and_for_each_damage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["validators", "--count", "3"])
    main()
    head, rule, *rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines()]
    assert len({len(head), len(rule), *map(len, rows)}) == 1
    found = {(row[0].strip(), row[1].strip()): row for row in rows}
    assert len(found) == 7
    for language in ("Python", "JSON", "Markdown"):
        assert [cell.strip() for cell in found[language, "true text"][4:7]] == ["0", "0", "0"]
    assert found["Markdown", "a cell left out"][6].strip() == "3"
