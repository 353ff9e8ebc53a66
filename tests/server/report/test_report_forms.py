"""The report as a person gets it: a terminal's page, a web page, rows, metrics; and what it is told to show."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from midspan.server.cli import main
from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.telemetry.store import Telemetry
from tests.server.report.rich import LANGUAGES, make_rich_store

VOID = {"meta"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    make_rich_store(folder)
    return folder


def run(capsys: pytest.CaptureFixture[str], state: Path, *argv: str) -> str:
    assert main(["report", "--state-dir", str(state), *argv]) == 0
    return capsys.readouterr().out


def found_in(capsys: pytest.CaptureFixture[str], state: Path, *argv: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(capsys, state, "--json", *argv))
    return found


def day(ago: int) -> str:
    return f"{datetime.now().astimezone() - timedelta(days=ago):%Y-%m-%d}"


def test_a_terminal_shows_it_on_one_screen(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    lines = run(capsys, state).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 28
    text = "\n".join(lines)
    for measure in ("time to first useful edit", "quality by task", "utilisation", "cost per accepted edit"):
        assert re.search(rf"^{measure} +.*\d", text, re.MULTILINE), measure


def test_comparisons_fit_a_terminal_too(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    for argv in (("--before", day(9)), ("--compare", "checkpoint"), ("--compare", "language")):
        assert max(map(len, run(capsys, state, *argv).splitlines())) <= 80


def test_the_four_measures_are_what_the_rows_say(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    found = found_in(capsys, state)
    measures = found["measures"]
    with closing(sqlite3.connect(state / FILE_NAME)) as store:
        (taken,) = store.execute("SELECT count(accepted_ts) FROM completion").fetchone()
        waits = store.execute("SELECT latency_ms FROM completion WHERE accepted_ts NOT NULL ORDER BY 1").fetchall()
        (minutes,) = store.execute("SELECT count(DISTINCT ts / 60000) FROM request").fetchone()
        kept = "sum(kept_300 * chars) / sum(iif(kept_300 IS NULL, 0, chars)) * sum(iif(accepted_ts IS NULL, 0, chars))"
        (kept_chars,) = store.execute(f"SELECT {kept} FROM completion").fetchone()
    assert measures["time_to_first_useful_edit_ms"]["p50"] == pytest.approx(waits[(taken + 1) // 2 - 1][0], abs=0.06)
    busy_s = 400 * (10.0 + 15.0 + 4.0) / 1000
    assert measures["utilisation"] == {
        "busy_s": pytest.approx(busy_s), "active_minutes": minutes, "share": pytest.approx(busy_s / 60 / minutes),
    }  # fmt: skip
    assert measures["cost_per_accepted_edit"] == {
        "device_s": pytest.approx(busy_s / taken),
        "steps": pytest.approx(400 * 4 / taken),
        "device_s_per_100_kept_chars": pytest.approx(100 * busy_s / kept_chars),
    }
    tasks = measures["quality_by_task"]
    assert {kind: one["accepted"] for kind, one in tasks.items()} == {
        kind: pytest.approx(part["acceptance_rate"]) for kind, part in found["by"]["kind"].items()
    }
    assert all(0.6 < one["kept"] < 1 for one in tasks.values())


def test_what_an_engine_elsewhere_computes_is_no_use_of_this_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_rich_store(tmp_path, 20)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store, store:
        store.execute("UPDATE setup SET engine = 'there' || id, device = 'there' || id")
    assert found_in(capsys, tmp_path)["measures"]["utilisation"]["busy_s"] == 0.0


def test_fates_are_counted(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    found = found_in(capsys, state)
    with closing(sqlite3.connect(state / FILE_NAME)) as store:
        counted = dict(store.execute("SELECT fate, count(*) FROM request GROUP BY fate").fetchall())
    assert found["fates"] == counted
    assert found["failures"] == {"RemoteError": counted["failed"]}
    assert found["requests"] == 400
    assert found["phases_ms"]["denoise"] == 15.0


def test_a_day_parts_what_is_compared(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    [comparison] = found_in(capsys, state, "--before", day(10))["comparisons"]
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=10)
    with closing(sqlite3.connect(state / FILE_NAME)) as store:
        counts = store.execute(
            "SELECT count(*), count(accepted_ts) FROM completion GROUP BY ts >= ? ORDER BY ts >= ?",
            (1000 * midnight.timestamp(),) * 2,
        ).fetchall()
    assert [one["name"] for one in comparison["sides"]] == ["before", "since"]
    assert [(one["offered"], one["hits"]) for one in comparison["sides"]] == counts


@pytest.mark.parametrize("name", ["checkpoint", "engine", "language", "client"])
def test_each_is_compared_with_the_most_used_one(capsys: pytest.CaptureFixture[str], state: Path, name: str) -> None:
    found = found_in(capsys, state, "--compare", name)
    [comparison] = found["comparisons"]
    counts = [one["offered"] for one in comparison["sides"]]
    assert counts == sorted(counts, reverse=True)
    assert len(comparison["sides"]) == len(found["by"][name])
    assert len(comparison["said"]) == max(1, len(counts) - 1)


class Page(HTMLParser):
    """Checks that elements are closed in order, and collects their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.attributes = list[str](), list[tuple[str, str | None]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_but_itself(capsys: pytest.CaptureFixture[str], state: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    run(capsys, state, "--html", str(file), "--compare", "checkpoint")
    text = file.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not {"src", "href", "style", "onclick"} & {name for name, _ in page.attributes}
    assert not re.search(r"https?:|<script|@import|url\(", text)
    assert len(text.encode()) < 100_000
    assert "secret" not in text


def test_each_plot_has_a_title_and_its_table(capsys: pytest.CaptureFixture[str], state: Path, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    run(capsys, state, "--html", str(file))
    figures = re.findall(r"<figure>(.*?)</figure>", file.read_text(encoding="utf-8"), re.DOTALL)
    assert len(figures) == 7
    for figure in figures:
        [plot] = re.findall(r"<svg.*?</svg>", figure, re.DOTALL)
        root = ElementTree.fromstring(plot)
        assert root.get("role") == "img"
        assert root.get("aria-label") == root.findtext("title") != ""
        assert len(root) > 1
        assert "<table>" in figure


def test_over_months_a_point_is_a_week(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    make_rich_store(tmp_path, 200, days=100)
    file = tmp_path / "page.html"
    run(capsys, tmp_path, "--since", "200d", "--html", str(file))
    [plot] = re.findall(r"<svg[^>]*percent by day.*?</svg>", file.read_text(encoding="utf-8"), re.DOTALL)
    assert 14 <= plot.count("<circle") <= 16


def test_rows_are_written_as_they_are(capsys: pytest.CaptureFixture[str], state: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    found = found_in(capsys, state, "--csv", str(file))
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == found["offered"]
    assert sum(row["accepted_ts"] != "" for row in rows) == found["accepted"]
    assert {row["language"] for row in rows} == set(LANGUAGES)
    assert "uri_hash" not in rows[0]


def test_metrics_are_sums_in_the_form_that_prometheus_reads(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    text = run(capsys, state, "--prometheus")
    sample = re.compile(r'[a-z_]+(?:\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})? [-+.e\d]+')
    lines = text.splitlines()
    assert all(line.startswith(("# HELP ", "# TYPE ")) or sample.fullmatch(line) for line in lines)
    names = [line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")]
    # The samples of a metric stand together.
    assert len([name for name, other in zip(names, ["", *names], strict=False) if name != other]) == len(set(names))
    found = found_in(capsys, state)
    accepted = [line for line in lines if line.startswith("midspan_suggestions_accepted{")]
    assert sum(float(line.rpartition(" ")[2]) for line in accepted) == found["accepted"]
    assert len({line.rpartition(" ")[0] for line in lines if not line.startswith("#")}) == len(names)
    assert "/models" not in text


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--before", "yesterday"), "'yesterday' is no day such as 2026-11-30"),
        (("--compare", "moods"), "invalid choice: 'moods'"),
        (("--json", "--prometheus"), "not allowed with argument --json"),
    ],
)
def test_a_wrong_option_is_one_line(
    capsys: pytest.CaptureFixture[str], state: Path, argv: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", "--state-dir", str(state), *argv])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("date", [day(-2), day(40)])
def test_a_day_outside_the_time_is_one_line_with_the_fix(
    capsys: pytest.CaptureFixture[str], state: Path, date: str
) -> None:
    assert main(["report", "--state-dir", str(state), "--before", date]) == 1
    error = capsys.readouterr().err
    assert "give a longer --since" in error
    assert error.count("\n") == 1


def test_rows_that_cannot_be_written_are_one_line(
    capsys: pytest.CaptureFixture[str], state: Path, tmp_path: Path
) -> None:
    assert main(["report", "--state-dir", str(state), "--csv", str(tmp_path / "none" / "rows.csv")]) == 1
    assert "rows.csv: No such file or directory; give a file that can be written" in capsys.readouterr().err


def test_an_empty_store_has_every_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Telemetry(tmp_path, lambda trouble: None).close()
    file = tmp_path / "page.html"
    text = run(capsys, tmp_path, "--html", str(file), "--csv", str(tmp_path / "rows.csv"), "--compare", "engine")
    assert "there is nothing to compare with" in text
    assert "midspan since" in file.read_text(encoding="utf-8")
    assert run(capsys, tmp_path, "--prometheus") == "\n"


def today() -> int:
    """The day in local time since 1970."""
    here = datetime.now().astimezone()
    return int((here.timestamp() + (here.utcoffset() or timedelta()).total_seconds()) // 86_400)


def test_days_are_those_of_this_place(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = today()
    make_rich_store(tmp_path, 10, days=1)
    assert {one["day"] for one in found_in(capsys, tmp_path)["days"]} <= {before, today()}
