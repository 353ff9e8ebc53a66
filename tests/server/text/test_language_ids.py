"""Language ids of editors: every id in use maps to its own language."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.text.documents import Document
from midspan.server.text.language_ids import ALIASES
from midspan.server.text.languages import BY_NAME, TABLE, is_on, name_in, name_of
from tests.server.raw_client import complete, connected
from tests.server.scripted import TEXT

IDS = {
    "python": "python Python PYTHON python3 python3.12 ipython python-ts python-ts-mode python-mode python-base-mode",
    "javascript": "javascript js jsx javascriptreact javascript.jsx js2-mode js-ts-mode rjsx-mode JavaScript",
    "typescript": "typescript ts typescript-ts-mode typescript-mode TypeScript",
    "tsx": "tsx typescriptreact tsx-ts-mode typescript.tsx",
    "go": "go golang go-mode go-ts-mode",
    "rust": "rust rs rust-mode rust-ts-mode rustic-mode Rust",
    "java": "java java-mode java-ts-mode java17",
    "c": "c C c-mode c-ts-mode c99 c11",
    "cpp": "cpp c++ C++ c++-mode c++-ts-mode cpp17 cuda-cpp",
    "csharp": "csharp cs c# C# csharp-mode csharp-ts-mode",
    "ruby": "ruby rb ruby-mode ruby-ts-mode enh-ruby-mode",
    "php": "php php7 php7.4 php-mode php-ts-mode",
    "bash": "bash sh zsh ksh shell shellscript sh-mode bash-ts-mode shell-script-mode shell_script",
    "json": "json jsonc json-mode json-ts-mode",
    "yaml": "yaml yml yaml-mode yaml-ts-mode dockercompose yaml.ansible",
    "toml": "toml toml-ts-mode",
    "html": "html html5 html-mode xhtml html.handlebars",
    "css": "css css3 css-mode css-ts-mode",
    "markdown": "markdown md gfm gfm-mode markdown-mode",
    "sql": "sql mysql sql-mode plsql",
    "lua": "lua lua5.1 lua-mode lua-ts-mode",
}
OTHERS = (
    "plaintext",
    "text",
    "go.mod",
    "objective-c",
    "emacs-lisp",
    "fortran",
    "f90",
    "m4",
    "pyrex",
    "cobol",
    "vue",
    "",
)


@pytest.mark.parametrize(("id", "name"), [(id, name) for name, ids in IDS.items() for id in ids.split()])
def test_every_id_in_use_names_its_language(id: str, name: str) -> None:
    assert name_of(id) == name
    assert is_on(id, [name], {})
    assert is_on("unknown to all", [], {"unknown to all": True, id: True})


def test_every_language_has_ids() -> None:
    assert set(IDS) == {language.name for language in TABLE}


@pytest.mark.parametrize("id", OTHERS)
def test_ids_of_other_languages_name_no_language_of_the_table(id: str) -> None:
    assert name_of(id) in (id, "plaintext")


@given(st.sampled_from(sorted([*BY_NAME, *ALIASES])), st.sampled_from(["", "-mode", "-ts", "-ts-mode"]))
def test_a_modes_ending_and_capitals_do_not_matter(id: str, end: str) -> None:
    # Ids with a dot are complete filetypes, without a mode's ending.
    assert name_of(id.upper() + ("" if "." in id else end)) == name_of(id)


@given(st.text(string.printable, max_size=20))
def test_the_name_of_a_name_is_itself(id: str) -> None:
    assert name_of(name_of(id)) == name_of(id)


@pytest.mark.parametrize(
    ("id", "uri", "name"),
    [
        ("", "file:///a/b.py", "python"),
        ("Fundamental", "file:///a/b.PY", "python"),
        ("nobody knows it", "untitled:x.rs?query#part", "rust"),
        ("python", "file:///a/b.rs", "python"),
        ("plaintext", "file:///a/b.py", "plaintext"),
        ("nobody knows it", "file:///a.py/b", "nobody knows it"),
        ("python", "vscode-notebook-cell:/a/b.ipynb#W0", "python"),
    ],
)
def test_the_file_extension_decides_if_the_id_is_unknown(id: str, uri: str, name: str) -> None:
    assert name_in(id, uri) == name
    document = Document(uri, id, 1, "x")
    assert document.language_id == name
    assert (document.syntax is not None) == (name in ("python", "rust"))


@pytest.mark.parametrize(
    ("id", "uri"), [("python-ts-mode", "untitled:1"), ("Python", "untitled:1"), ("", "file:///a.py")]
)
def test_a_document_is_filled_by_any_name_of_its_language(tmp_path: Path, id: str, uri: str) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ", uri=uri, language=id)
        assert client.ask(complete(1, 0, 4, uri=uri)) == [TEXT]
        assert client.leave() == 0


def test_an_unknown_id_is_not_logged(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ", uri="untitled:1", language="hunter2\nhunter3")
        client.exchange(complete(1, 0, 4, uri="untitled:1"))
        assert client.leave() == 0
        assert "no fills in a language that midspan has no grammar of" in client.stderr
        assert "hunter" not in client.stderr
