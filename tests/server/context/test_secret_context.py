"""Secrets planted in the files of a workspace: none reaches the index, a prompt, the log or the store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from midspan.engine.api import Hole
from midspan.server.text.documents import Documents
from midspan.server.workspace.indexer import MAX_FILE_BYTES
from tests.server.gaps import read_workspace, write_files
from tests.server.raw_client import RawClient, call, complete, connected

EXCLUDE = ["private", "deep/generated/*.py"]
KEY = "-----BEGIN RSA " + "PRIVATE KEY-----"
# Each defines a name of its own, which the file in the editor imports and calls.
PLANTED = {
    name: (
        f"TOKEN_{number} = 'planted{number}planted'\n\nvisible(planted{number}planted)\n\n"
        f"def fetch_{number}(x='planted{number}planted'):\n    pass\n"
    )
    for number, name in enumerate(
        (
            ".env.py", "id_rsa_1.py", ".ssh/config.py", ".aws/credentials.py", ".hidden/config.py", "ignored.py",
            "build/generated.py", "sub/kept_out.py", "excluded_here.py", "private/notes.py", "deep/generated/a.py",
            "node_modules/tool.py", "key_inside.py", "large.py", "binary.py", "link.py", "folder_link/a.py",
        )
    )
}  # fmt: skip
# For an open document the text in the editor counts, whatever its file is.
LINKED_OR_ODD = ("large.py", "binary.py", "link.py", "folder_link/a.py", ".hidden/config.py", "node_modules/tool.py")
RULES = {
    ".gitignore": "ignored.py\nbuild/\n",
    "sub/.gitignore": "kept_*.py\n",
    ".git/info/exclude": "excluded_here.py\n",
}
VISIBLE = {
    "visible.py": "VISIBLE = 1\n\ndef visible(count):\n    pass\n\nvisible(2)\nvisible_too = 3\n",
    "sub/also.py": "def also(x):\n    pass\n",
}
CALLS = "".join(f"fetch_{number}(TOKEN_{number})\n" for number in range(len(PLANTED)))
IMPORTS = "".join(f"from {Path(name).stem} import fetch_{number}\n" for number, name in enumerate(PLANTED))
APP = f"{IMPORTS}from visible import visible\nfrom also import also\n\n{CALLS}visible(also(VISIBLE))\n\n0\n"
GAP = APP.count("\n") - 2


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository that holds all planted files, and links to planted files outside of it."""
    root, outside = tmp_path / "project", tmp_path / "outside"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    texts = dict(PLANTED)
    texts["key_inside.py"] += f'KEY = """{KEY}\n"""\n'
    texts["large.py"] += "# large\n" * (MAX_FILE_BYTES // 8)
    texts["binary.py"] += "\0"
    linked = {"link.py": texts.pop("link.py"), "folder/a.py": texts.pop("folder_link/a.py")}
    write_files(outside, linked)
    write_files(root, {**texts, **RULES, **VISIBLE})
    (root / "link.py").symlink_to(outside / "link.py")
    (root / "folder_link").symlink_to(outside / "folder")
    return root


def needles() -> list[str]:
    return [f"planted{number}planted" for number in range(len(PLANTED))]


def test_the_index_holds_no_planted_secret(project: Path) -> None:
    index = read_workspace(project, Documents(), tuple(EXCLUDE))
    assert index.here("visible", str(project / "visible.py"))
    for number, name in enumerate(PLANTED):
        path = project / name
        assert path.is_file()
        words = {path.stem, path.parent.name}
        for defined in (f"fetch_{number}", f"TOKEN_{number}"):
            assert index.elsewhere(defined, str(project / "app.py"), "python", {*words, defined}) == []
    assert index.lines_near(Hole(prefix="visible(planted", suffix=""), str(project / "app.py")) == ()


def test_each_planted_file_would_be_found_under_a_plain_name(project: Path) -> None:
    plain = {f"plain_{number}.py": text for number, text in enumerate(PLANTED.values())}
    write_files(project, plain)
    index = read_workspace(project, Documents(), tuple(EXCLUDE))
    for number in range(len(PLANTED)):
        assert index.elsewhere(f"fetch_{number}", str(project / "app.py"), "python", {f"plain_{number}"}) != []
        # A line that assigns a secret is shown nowhere.
        assert index.lines_near(Hole(prefix=f"TOKEN_{number} ", suffix=""), str(project / "app.py")) == ()
        assert index.lines_near(Hole(prefix=f"visible(planted{number}p", suffix=""), str(project / "app.py")) != ()


def ask_until(client: RawClient, prompts: Path, uri: str, wanted: str) -> None:
    """Request completion below the calls until `wanted` is in the context; each request follows an edit of a line."""
    for number in range(2000):
        client.send(typed(uri, GAP + 1, str(number)))
        client.ask(complete(1000 + number, GAP, 0, uri=uri))
        if wanted in "\n".join(json.loads(prompts.read_text().splitlines()[-1])[2:]):
            return
    raise AssertionError(f"{wanted!r} has not been seen")


def test_no_planted_secret_reaches_a_prompt_the_log_or_the_store(project: Path, tmp_path: Path) -> None:
    prompts, log, state = tmp_path / "prompts", tmp_path / "log", tmp_path / "state"
    arguments = (
        "--prompts",
        str(prompts),
        "--log-file",
        str(log),
        "--context-tokens",
        "2000",
        "--elsewhere",
        "--debug",
    )
    with connected(state, *arguments) as client:
        client.start({"exclude": EXCLUDE, "debounce_ms": 0}, root=project)
        for name, text in PLANTED.items():
            if name not in LINKED_OR_ODD:
                uri = (project / name).as_uri()
                client.open(text + (KEY if name == "key_inside.py" else ""), uri=uri)
                client.send(typed(uri))
        uri = (project / "app.py").as_uri()
        client.open(APP, uri=uri)
        visible = (project / "visible.py").as_uri()
        client.open(VISIBLE["visible.py"], uri=visible)
        client.send(typed(visible))
        for wanted in ("def visible(count):", "def also(x):", "# visible.py\n VISIBLE = 1", "visible_too = 3"):
            ask_until(client, prompts, uri, wanted)
        assert client.leave() == 0
        written = [client.stderr.encode()]
    assert "context: headers" in log.read_text()
    written += [file.read_bytes() for file in (prompts, log, *(path for path in state.rglob("*") if path.is_file()))]
    assert len(written) >= 4
    for needle in needles():
        assert [line for text in written for line in text.splitlines() if needle.encode() in line] == []


def typed(uri: str, line: int = 0, text: str = " ") -> dict[str, object]:
    """A change that inserts text at the beginning of a line."""
    here = {"line": line, "character": 0}
    changes = [{"range": {"start": here, "end": here}, "text": text}]
    document = {"uri": uri, "version": 2}
    return call(None, "textDocument/didChange", {"textDocument": document, "contentChanges": changes})


def test_nothing_is_offered_in_a_document_that_git_ignores(project: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    with connected(tmp_path / "state", "--prompts", str(prompts)) as client:
        client.start(root=project)
        for number, (name, offered) in enumerate(
            (("ignored.py", False), ("build/generated.py", False), ("sub/kept_out.py", False), ("visible.py", True))
        ):
            uri = (project / name).as_uri()
            client.open("x = \n", uri=uri)
            assert (client.ask(complete(number, 0, 4, uri=uri)) is not None) == offered
        (project / ".gitignore").unlink()
        client.open("x = \n", uri=(project / "ignored.py").as_uri())
        assert client.ask(complete(10, 0, 4, uri=(project / "ignored.py").as_uri())) is not None
        assert client.leave() == 0
    assert len(prompts.read_text().splitlines()) == 2
