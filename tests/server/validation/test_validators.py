"""What is shown of several texts, unasked and on request, and that validators which do not apply cost nothing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.text.documents import Document
from midspan.server.text.trial import Trial
from midspan.server.validation.validators import MODULES, MOST_BYTES, validated
from tests.server.lsp_client import URI, session
from tests.server.pictures import cut, place
from tests.server.scripted import UNDEFINED

NAME = "uses `missing`, which nothing here defines"


def trial(picture: str, language: str = "python") -> Trial:
    before, _, after = cut(picture)
    return Trial(Document("file:///a", language, 1, before + after), place(before), place(before))


@pytest.mark.parametrize("invoked", [True, False])
def test_what_is_objected_to_goes_where_there_is_something_else(invoked: bool) -> None:
    shown, objections = validated(trial("x = ‸\n"), ["missing", "1", "(", "len"], invoked=invoked)
    assert shown == ["1", "len"]
    assert [(one.kind, one.spans) for one in objections] == [("name", ((0, 7),)), ("parse", ())]
    assert objections[0].words == NAME


def test_a_person_who_asks_gets_it_where_there_is_nothing_else() -> None:
    for invoked, wanted in ((True, ["missing"]), (False, [])):
        shown, objections = validated(trial("x = ‸\n"), ["missing", "("], invoked=invoked)
        assert shown == wanted
        assert [one.kind for one in objections] == ["name", "parse"]


def test_a_span_and_its_document_as_it_is_now_are_what_counts() -> None:
    document = Document("file:///a", "python", 1, "x = [\n    1,\n    2]\n")
    tried = Trial(document, (1, 4), (2, 5))
    assert tried.around(MOST_BYTES) == ("x = [\n    ", "]\n")
    assert tried.around(len(document.text) - 1) is None
    document.edit(((0, 0), (0, 0)), "\n")
    assert tried.around(MOST_BYTES) is None
    assert validated(tried, ["missing"], invoked=False) == (["missing"], [])


def test_validators_are_imported_when_they_apply() -> None:
    script = f"""
import sys
from midspan.server.telemetry.schema import FILE_NAME
from midspan.server.text.documents import Document
from midspan.server.text.trial import Trial
from midspan.server.validation.validators import validated
for language, wanted in (("rust", set()), ("python", {{"python"}}), ("markdown", {{"python", "markdown"}})):
    validated(Trial(Document("file:///a", language, 1, "x"), (0, 1), (0, 1)), ["y"], invoked=False)
    assert {{name for name, module in {MODULES}.items() if module in sys.modules}} == wanted, language
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=100)


async def test_why_names_what_is_undefined_and_what_is_stored_does_not(tmp_path: Path) -> None:
    async with session(tmp_path) as client:
        client.open("undefined = \n")
        assert await client.complete(0, 12) == []
        [said] = await client.execute("midspan.why", URI)
        assert said == f"what would be filled in {NAME}; ask for a suggestion to see it"
        [item] = await client.complete(0, 12, invoked=True)
        assert item.insert_text == UNDEFINED
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as store:
        found = store.execute("SELECT reason, language, kind, trigger, checkpoint FROM veto ORDER BY rowid").fetchall()
        stored = "\n".join(store.iterdump())
    # Twice each: the repair is no better.
    triggers = ("automatic", "automatic", "invoked", "invoked")
    assert found == [("name", "python", "rest_of_line", one, "scripted") for one in triggers]
    assert "missing" not in stored
