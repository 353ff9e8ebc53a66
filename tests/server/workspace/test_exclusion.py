"""Documents without suggestions, as exclude patterns or git's rules name them: in every URI scheme and behind links."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from midspan.engine.api import Hole
from midspan.server.text.documents import Documents
from midspan.server.text.uris import key_of, key_of_path, path_of, path_of_key
from midspan.server.workspace.exclusion import EXCLUDED, IGNORED, NAMED, Exclusion, leads_to
from tests.server.gaps import read_workspace, write_files
from tests.server.raw_client import complete, connected

SCHEMES = (
    "file://{}", "FILE://{}", "vscode-notebook-cell:{}#W0sZmlsZQ%3D%3D", "vscode-notebook-cell://{}#X2", "untitled:{}",
    "git:{}?%7B%22ref%22%3A%22~%22%7D", "vscode-remote://ssh-remote%2Bhost{}", "jupyter-notebook-cell:{}",
    "inmemory:{}", "gitlens://a1b2{}?x", "jar:file://{}", "my_scheme:{}", "vscode-local:{}", "conflictResolution:{}",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    rules = {".gitignore": "*.ipynb\nsecret/\n", "private/.gitignore": "x.py\n"}
    files = dict.fromkeys(("secret/real.py", "private/nb.ipynb", "private/x.py", "seen.py", ".env", "out/notes.py"), "")
    write_files(root, rules | files)
    return root


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_rules_hold_in_every_scheme(project: Path, scheme: str) -> None:
    policy = Exclusion([project])

    def reason(name: str) -> str | None:
        return policy.reason(scheme.format(f"{project}/{name}"), ("out",))

    ignored = ("private/nb.ipynb", "private/new.ipynb", "secret/new.py", "private/x.py")
    assert [reason(name) for name in ignored] == [IGNORED] * len(ignored)
    assert [reason(name) for name in (".env", "out/notes.py", "id_rsa")] == [NAMED, EXCLUDED, NAMED]
    assert [reason(name) for name in ("seen.py", "new.py")] == [None] * 2


@pytest.mark.parametrize("uri", ["fugitive://{}/.git//0/private/x.py", "gitsigns://{}/.git//:0:private/x.py"])
def test_an_older_version_of_an_unknown_file_is_excluded(project: Path, uri: str) -> None:
    assert Exclusion([project]).reason(uri.format(project)) == IGNORED


@pytest.mark.parametrize("uri", ["untitled:Untitled-1", "untitled:", "", "inmemory://model/1", "x"])
def test_no_rules_apply_to_a_document_without_a_path(uri: str) -> None:
    assert Exclusion().reason(uri) is None


def test_without_a_repository_rules_apply_from_the_open_folder_on(tmp_path: Path) -> None:
    write_files(tmp_path, {"root/.gitignore": "private\n", "root/private/deep/a.py": "", ".gitignore": "*\n"})
    uri = f"untitled:{tmp_path}/root/private/deep/a.py"
    policy = Exclusion()
    assert policy.reason(uri) is None
    policy.open_folders([tmp_path / "root"])
    assert policy.reason(uri) == IGNORED
    assert policy.reason((tmp_path / "root/a.py").as_uri()) is None


@pytest.mark.parametrize(
    ("link", "target", "opened", "kept_out"),
    [
        ("link.py", "secret/real.py", "link.py", IGNORED),
        ("link.py", ".env", "link.py", NAMED),
        ("link.py", "seen.py", "link.py", None),
        ("folder", "secret", "folder/real.py", IGNORED),
        ("secret/alias.py", "../seen.py", "secret/alias.py", IGNORED),
        ("link.py", "/nowhere/id_rsa", "link.py", NAMED),
        ("loop", "loop", "loop/x.py", None),
    ],
)
def test_the_rules_of_a_links_target_apply(
    project: Path, link: str, target: str, opened: str, kept_out: str | None
) -> None:
    (project / link).symlink_to(target)
    assert Exclusion().reason((project / opened).as_uri()) == kept_out


def test_the_rules_of_every_link_of_a_chain_apply(project: Path) -> None:
    (project / "secret/middle.py").symlink_to("../seen.py")
    (project / "first.py").symlink_to("secret/middle.py")
    assert Exclusion().reason((project / "first.py").as_uri()) == IGNORED
    assert [os.path.relpath(path, project) for path in leads_to(str(project / "first.py"))] == [
        "first.py", "secret/middle.py", "seen.py",
    ]  # fmt: skip


def test_lines_of_excluded_documents_are_given_to_no_other_file(project: Path) -> None:
    (project / "link.py").symlink_to("secret/real.py")
    documents = Documents()
    for number, uri in enumerate(
        (
            (project / "link.py").as_uri(),
            f"vscode-notebook-cell:{project}/private/nb.ipynb#W0",
            f"untitled:{project}/private/x.py",
            f"git:{project}/secret/real.py?x",
            f"untitled:{project}/seen_too.py",
        )
    ):
        documents.open(uri, "python", 1, f"planted_{number} = 1\n")
    index = read_workspace(project, documents)
    found = index.lines_near(Hole(prefix="planted", suffix=""), str(project / "seen.py"))
    assert [line.text for line in found] == ["planted_4 = 1"]


def test_a_notebook_cell_or_a_link_of_an_ignored_file_gets_no_answer(project: Path, tmp_path: Path) -> None:
    (project / "link.py").symlink_to("secret/real.py")
    with connected(tmp_path / "state") as client:
        client.start(root=project)
        asked = {
            (project / "link.py").as_uri(): False,
            f"vscode-notebook-cell:{project}/private/nb.ipynb#W0": False,
            f"untitled:{project}/private/x.py": False,
            f"git:{project}/private/x.py": False,
            f"vscode-notebook-cell:{project}/seen.py#W0": True,
            f"untitled:{project}/new.py": True,
        }
        for number, (uri, offered) in enumerate(asked.items()):
            client.open("x = \n", uri=uri)
            assert (client.ask(complete(number, 0, 4, uri=uri)) is not None) == offered
        assert client.leave() == 0


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("file:///a/b.py", "/a/b.py"),
        ("file:///a/../b%20c.py", "/b c.py"),
        ("file:///a/caf%E9.py", "file:///%61%2F"),
        ("file:///a%0Ab.py", "/a\nb.py"),
        ("untitled:/a/b.py", "untitled:/a/b.py"),
        ("untitled:\ud83d", "untitled:\ufffd"),
        ("file://[a/b.py", "file://[a/b.py"),
    ],
)
def test_keys_can_be_encoded_and_give_the_path_back(uri: str, key: str) -> None:
    found = key_of(uri)
    assert found.encode()
    if "%E9" in uri:
        assert path_of_key(found) == os.fsdecode(b"/a/caf\xe9.py")
        assert key_of_path(os.fsdecode(b"/a/caf\xe9.py")) == found
    else:
        assert found == key


def test_paths_in_uris() -> None:
    assert path_of("file:////a//b.py") == "/a/b.py"
    assert path_of("untitled:a.py") is None
    with pytest.raises(ValueError, match="IPv6"):
        path_of("file://[a/b.py")
