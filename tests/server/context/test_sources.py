"""Context from each source, as pictures: the file, other files, then the snippets of each source."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.engine.api import Hole
from midspan.server.context.context import SOURCES, collect
from midspan.server.context.diagnostics import Diagnosed, Diagnosis
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap
from midspan.server.text.documents import Document, Documents
from midspan.server.workspace.indexer import MAX_FILE_BYTES
from tests.server.gaps import UNHURRIED_S, read_workspace, used_at, window, write_files
from tests.server.pictures import FIXTURES, named

PICTURES = sorted((FIXTURES / "context").glob("*.txt"))


def of(sections: dict[str, str], word: str) -> dict[str, str]:
    """The sections whose names begin with a word, by the rest of their names."""
    return {name.removeprefix(word): text for name, text in sections.items() if name.startswith(word)}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_snippets_of_every_source(path: Path, tmp_path: Path) -> None:
    sections = named(path)
    text, at, hole = window(sections[""])
    if "line ends" in sections:
        text = text.replace("\n", "\r\n")
    language, name = sections["language"].strip(), sections["path"].strip()
    files, others = of(sections, "file "), of(sections, "opened ")
    write_files(tmp_path, {**files, **others, name: text})
    documents = Documents()
    document = documents.open((tmp_path / name).as_uri(), language, 1, text)
    for other, its_text in others.items():
        documents.open((tmp_path / other).as_uri(), language, 1, its_text)
    used = used_at(tmp_path, document, at, hole, documents)
    given = {source: "".join(f"{snippet}\n" for snippet in one.snippets) for source, one in used.items()}
    assert given == {source: sections.get(source, "") for source, _, _ in SOURCES}


def test_every_source_has_a_picture_or_a_test_here() -> None:
    shown = {name for path in PICTURES for name in named(path)}
    # test_diagnostics.py has the tests of diagnostics.
    assert {source for source, _, _ in SOURCES} - shown == {"recent edits", "diagnostics"}


def lines(count: int) -> str:
    return "".join(f"line_{number} = {number}\n" for number in range(count))


def open_two(root: Path) -> tuple[Documents, Document]:
    documents = Documents()
    documents.open((root / "other.py").as_uri(), "python", 1, lines(100))
    return documents, documents.open((root / "here.py").as_uri(), "python", 1, lines(100))


def edits_seen(root: Path, edits: Edits) -> tuple[str, ...]:
    """The snippets of recent edits for a gap at line 50 with a window of lines 40 to 60."""
    documents, here = open_two(root)
    hole = Hole(prefix="".join(here.lines[40:50]), suffix="".join(here.lines[50:60]))
    return used_at(root, here, (50, 0), hole, documents, edits)["recent edits"].snippets


def test_recent_edits_outside_the_window_come_with_the_newest_last(tmp_path: Path) -> None:
    edits = Edits()
    for name, line in (("here.py", 5), ("other.py", 45), ("here.py", 45)):
        edits.note((tmp_path / name).as_uri(), ((line, 0), (line, 0)), "x")
    assert edits_seen(tmp_path, edits) == (
        "# here.py\nline_4 = 4\nline_5 = 5\nline_6 = 6",
        "# other.py\nline_44 = 44\nline_45 = 45\nline_46 = 46",
    )


def test_a_long_edit_is_cut_behind_a_line(tmp_path: Path) -> None:
    documents, here = open_two(tmp_path)
    other, edits = (tmp_path / "other.py").as_uri(), Edits()
    for wide in (400, 4000):
        documents.change(other, 2, [(((5, 0), (7, 0)), f"{'a' * wide} = 1\n{'b' * 400} = 2\n")], "utf-32")
        edits.note(other, ((5, 0), (6, 0)), "\n")
        hole = Hole(prefix="".join(here.lines[40:50]), suffix="".join(here.lines[50:60]))
        shown = used_at(tmp_path, here, (50, 0), hole, documents, edits)["recent edits"].snippets
        assert shown == ((f"# other.py\nline_4 = 4\n{'a' * 400} = 1",) if wide == 400 else ("# other.py\nline_4 = 4",))


def test_an_edit_of_a_file_that_git_ignores_is_not_shown(tmp_path: Path) -> None:
    write_files(tmp_path, {".gitignore": "other.py\n"})
    edits = Edits()
    edits.note((tmp_path / "other.py").as_uri(), ((5, 0), (5, 0)), "x")
    assert edits_seen(tmp_path, edits) == ()


def test_a_private_key_that_has_just_been_pasted_is_not_shown(tmp_path: Path) -> None:
    documents, here = open_two(tmp_path)
    index, edits = read_workspace(tmp_path, documents), Edits()
    other, pasted = (tmp_path / "other.py").as_uri(), ((5, 0), (5, 0))
    documents.change(other, 2, [(pasted, "-----BEGIN " + "PRIVATE KEY-----\n")], "utf-16")
    edits.note(other, pasted, "\n")
    hole = Hole(prefix="", suffix="")
    gap = Gap(document=here, place=(50, 0), hole=hole, index=index, documents=documents, edits=edits, roots=())
    assert {used.source: used for used in collect(gap, 20_000, UNHURRIED_S)}["recent edits"].snippets == ()


@pytest.mark.parametrize("more", [0, 1])
def test_an_open_file_that_is_too_large_is_context_of_its_own_gaps_only(tmp_path: Path, more: int) -> None:
    documents, edits = Documents(), Edits()
    text = "def large(a):\n    pass\n\n\nlarge(1)\n"
    text += "#" * (MAX_FILE_BYTES - len(text) - 1 + more) + "\n"
    large = documents.open((tmp_path / "large.py").as_uri(), "python", 1, text)
    other = documents.open((tmp_path / "other.py").as_uri(), "python", 1, "from large import large\nlarge(1)\n")
    edits.note(large.uri, ((1, 0), (1, 0)), "x")
    shown = used_at(tmp_path, other, (1, 0), Hole(prefix=other.lines[0], suffix=other.lines[1]), documents, edits)
    assert [bool(shown[source].snippets) for source in ("open files", "recent edits")] == [not more, not more]
    hole = Hole(prefix="\n", suffix=large.lines[4])
    assert used_at(tmp_path, large, (4, 0), hole, documents)["this file"].snippets == ("def large(a):",)


def test_edits_of_a_closed_document_are_forgotten(tmp_path: Path) -> None:
    edits = Edits()
    edits.note((tmp_path / "other.py").as_uri(), ((5, 0), (5, 0)), "x")
    edits.forget((tmp_path / "other.py").as_uri())
    assert list(edits.newest()) == []


SECRETS = """\
import os
from vault import open_vault

API_KEY = "swordfish7"
TIMEOUT = 30


class Client(Base):
    password = "swordfish7"
    retries = 3

    def connect(self, host, token="swordfish7swordfish7", timeout=1):
        return host


def login(user, password="swordfish7"):
    return user
"""


def test_no_source_gives_a_line_with_a_secret(tmp_path: Path) -> None:
    write_files(tmp_path, {"shop.py": SECRETS, "far.py": SECRETS.replace("Client", "Far").replace("login", "far_in")})
    documents, edits = Documents(), Edits()
    text = f"{SECRETS}\nfrom far import Far, far_in\nfrom shop import Client, login, API_KEY\n" + "x = 1\n" * 30
    here = documents.open((tmp_path / "here.py").as_uri(), "python", 1, text + "Client(Far(login(far_in(API_KEY(")
    shop = documents.open((tmp_path / "shop.py").as_uri(), "python", 1, SECRETS)
    for uri, line in ((shop.uri, 3), (shop.uri, 15), (here.uri, 9)):
        edits.note(uri, ((line, 0), (line, 0)), "x")
    last = len(here.lines) - 1
    hole = Hole(prefix="".join(here.lines[-3:]), suffix="")
    used = used_at(tmp_path, here, (last, len(here.lines[last])), hole, documents, edits)
    shown = "\n".join(snippet for one in used.values() for snippet in one.snippets)
    assert "swordfish7" not in shown
    for wanted in ("class Client(Base):", "retries = 3", "class Far(Base):", "from vault import open_vault"):
        assert wanted in shown
    assert [bool(used[source].snippets) for source in ("imports", "this file", "open files", "workspace")] == [True] * 4


def test_a_diagnostic_that_quotes_a_secret_is_not_shown(tmp_path: Path) -> None:
    documents = Documents()
    here = documents.open((tmp_path / "a.py").as_uri(), "python", 1, 'password = "swordfish7"\nx = 1\n')
    diagnosed = Diagnosed()
    diagnosed.put(
        here.uri, [Diagnosis(0, "unused"), Diagnosis(1, "x: the password is swordfish7"), Diagnosis(1, "seen")]
    )
    hole = Hole(prefix="", suffix="")
    gap = Gap(
        document=here, place=(1, 0), hole=hole, index=read_workspace(tmp_path, documents), documents=documents,
        edits=Edits(), diagnosed=diagnosed, roots=(),
    )  # fmt: skip
    shown = {one.source: one.snippets for one in collect(gap, 20_000, UNHURRIED_S)}["diagnostics"]
    assert "swordfish7" not in "".join(shown)
    assert "# seen\nx = 1" in shown
