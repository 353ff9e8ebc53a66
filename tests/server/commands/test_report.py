"""The report of the telemetry store: counts, rates and characters, grouped by column, since a given time."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from midspan.server.cli import main
from midspan.server.telemetry.events import Offer, Veto
from midspan.server.telemetry.schema import DAY_MS, FILE_NAME
from midspan.server.telemetry.store import Telemetry
from tests.server.telemetry.old_stores import make_store


def offer(id: str, **changes: Any) -> Offer:
    values: dict[str, Any] = {
        "id": id, "uri": "file:///secret/plan.py", "language": "python", "kind": "line", "trigger": "automatic",
        "confidence": 0.5, "chars": 10, "lines": 1, "latency_ms": 80.0, "engine_ms": 75.0, "steps": 2,
        "checkpoint": "embedded", **changes,
    }  # fmt: skip
    return Offer(**values)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store of four suggestions: one accepted, one accepted in part, one shown, one of long ago."""
    troubles = list[str | None]()
    store = Telemetry(tmp_path, troubles.append)
    store.offered(offer("a", confidence=0.95, chars=12, latency_ms=100.0))
    store.offered(offer("b", language="<go>", kind="rest_of_line", confidence=1.0))
    store.offered(offer("c", trigger="invoked", confidence=0.1, latency_ms=60.0))
    store.offered(offer("old"))
    store.shown("c")
    store.accepted("a")
    store.partially_accepted("a", 3)
    store.partially_accepted("b", 4)
    store.close()
    assert troubles == []
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as rows, rows:
        rows.execute("UPDATE completion SET ts = ts - ? WHERE id = 'old'", (40 * DAY_MS,))
    return tmp_path


def report(capsys: pytest.CaptureFixture[str], state: Path, *argv: str) -> dict[str, Any]:
    assert main(["report", "--json", "--state-dir", str(state), *argv]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_every_figure(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    found = report(capsys, state)
    everything = {name: found[name] for name in ("offered", "shown", "accepted", "accepted_in_part", "chars_accepted")}
    assert everything == {"offered": 3, "shown": 1, "accepted": 1, "accepted_in_part": 1, "chars_accepted": 12 + 4}
    assert found["acceptance_rate"] == pytest.approx(1 / 3)
    assert found["latency_ms"] == {"p50": 80.0, "p95": 100.0}
    keys = ("from", "to", "offered", "accepted")
    assert [[one[key] for key in keys] for one in found["confidence"]] == [[0.0, 0.2, 1, 0.0], [0.8, 1.0, 2, 0.5]]
    assert [one["confidence"] for one in found["confidence"]] == [0.1, pytest.approx(0.975)]
    counts = {group: {key: part["offered"] for key, part in parts.items()} for group, parts in found["by"].items()}
    assert counts == {
        "language": {"<go>": 1, "python": 2},
        "kind": {"line": 2, "rest_of_line": 1},
        "trigger": {"automatic": 2, "invoked": 1},
        "checkpoint": {"embedded": 3},
        "engine": {},
        "client": {},
    }
    assert found["by"]["language"]["<go>"]["chars_accepted"] == 4
    assert report(capsys, state, "--since", "8w")["offered"] == 4
    began = time.time()
    assert report(capsys, state, "--since", "1h")["since"] <= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(began))


def test_what_validators_object_to_is_counted_by_kind(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    store = Telemetry(state, lambda trouble: None)
    veto = Veto(reason="", language="python", kind="line", trigger="automatic", checkpoint="embedded")
    for reason, remedy in (("name", "repaired"), ("table", "nothing"), ("name", "")):
        store.vetoed(replace(veto, reason=reason, remedy=remedy))
    store.close()
    assert report(capsys, state)["vetoed"] == {"name": 2, "table": 1}
    assert report(capsys, state)["remedies"] == {"nothing": 1, "repaired": 1}
    assert main(["report", "--state-dir", str(state), "--html", str(state / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "vetoed         name 2, table 1\nin their place nothing 1, repaired 1" in printed
    page = (state / "page.html").read_text(encoding="utf-8")
    assert "vetoed by validators: name 2, table 1" in page
    assert "shown in their place: nothing 1, repaired 1" in page
    assert main(["report", "--state-dir", str(state), "--prometheus"]) == 0
    metrics = capsys.readouterr().out.splitlines()
    assert {'midspan_vetoed{reason="name"} 2', 'midspan_remedies{remedy="repaired"} 1'} <= set(metrics)


def test_a_period_without_suggestions_is_no_error(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as rows, rows:
        rows.execute("UPDATE completion SET ts = 0")
    found = report(capsys, state)
    assert (found["offered"], found["acceptance_rate"], found["latency_ms"]) == (0, None, None)
    assert main(["report", "--state-dir", str(state)]) == 0
    assert re.search(r"^offered +0$", capsys.readouterr().out, re.MULTILINE)
    assert main(["report", "--state-dir", str(state), "--html", str(state / "page.html")]) == 0


class Cells(HTMLParser):
    """The text of the table cells of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = list[str]()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.seen.append(data)


def test_the_page_and_the_text_have_the_same_figures(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    page = state / "page.html"
    assert main(["report", "--state-dir", str(state), "--html", str(page)]) == 0
    text, cells = capsys.readouterr().out, Cells()
    cells.feed(page.read_text(encoding="utf-8"))
    assert "1 (33 %, 6 to 79)" in text
    assert "1 (33 %)" in cells.seen
    for said in ("p50 80 ms, p95 100 ms", "<go>"):
        assert said in text
        assert said in cells.seen
    assert "plan.py" not in text + page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.unlink(), "no suggestion was logged there yet; give the --state-dir of your server"),
        (
            lambda file: file.write_bytes(b"no database, whatever its name"),
            "file is not a database; remove it",
        ),
        (lambda file: newer(file), "its schema is version 99, this midspan knows 3; update midspan"),
    ],
)
def test_a_store_that_cannot_be_read_is_reported_with_one_line(
    capsys: pytest.CaptureFixture[str], state: Path, damage: Any, said: str
) -> None:
    damage(state / FILE_NAME)
    assert main(["report", "--state-dir", str(state)]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert str(state / FILE_NAME) in error
    assert error.count("\n") == 1


def newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as store:
        store.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("change", ["chars = 'many'", "setup = 99", "confidence = 'high'"])
def test_a_damaged_row_is_reported_with_one_line(capsys: pytest.CaptureFixture[str], state: Path, change: str) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as rows, rows:
        rows.execute(f"UPDATE completion SET {change} WHERE id = 'a'")
    assert main(["report", "--state-dir", str(state)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "remove it, or give another --state-dir" in err


def test_a_page_that_cannot_be_written_is_reported_with_one_line(
    capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    assert main(["report", "--state-dir", str(state), "--html", str(state / "none" / "page.html")]) == 1
    assert "page.html: No such file or directory; give a file that can be written" in capsys.readouterr().err


@pytest.mark.parametrize("since", ["0d", "yesterday", "3", "-1d", "9999999w"])
def test_a_wrong_time_is_refused(capsys: pytest.CaptureFixture[str], state: Path, since: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", "--state-dir", str(state), f"--since={since}"])
    assert ended.value.code == 2
    assert "is no time such as 12h, 30d or 8w" in capsys.readouterr().err


def test_a_setup_that_is_damaged_is_reported_with_one_line(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as rows, rows:
        rows.execute("UPDATE setup SET language = x'ff00' WHERE id = 1")
    assert main(["report", "--state-dir", str(state)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_engine_has_its_own_figures(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as store, store:
        store.execute("UPDATE setup SET engine = 'qwen' WHERE id = (SELECT setup FROM completion WHERE id = 'a')")
    assert report(capsys, state)["by"]["engine"]["qwen"]["accepted"] == 1


@pytest.mark.parametrize("version", [1, 2])
def test_a_store_of_an_earlier_version_is_read_and_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, version: int
) -> None:
    make_store(tmp_path, version)
    before = (tmp_path / FILE_NAME).read_bytes()
    found = report(capsys, tmp_path)
    assert (found["offered"], found["accepted"], found["chars_accepted"]) == (3, 1, 10 + 3 + 3)
    assert found["by"]["engine"].keys() == ({"qwen"} if version == 2 else set())
    assert found["vetoed"] == ({"name": 1} if version == 2 else {})
    assert (tmp_path / FILE_NAME).read_bytes() == before
