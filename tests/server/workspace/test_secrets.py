"""Secrets planted in documents: none reaches a prompt, the log or the store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midspan.server.workspace.exclusion import EXCLUDED, IGNORED, NAMED, is_excluded
from tests.server.gaps import write_files
from tests.server.raw_client import call, change, complete, connected
from tests.server.scripted import TEXT

# Each value is unique, so that it can be searched for. The forms are those that scanners know, the values are made up.
PLANTED = {
    ".env": "API_TOKEN=ghp_" + "planted0" * 4,
    ".env.production": "DATABASE_URL=postgres://app:planted1planted1@db/app",
    "%2Eenv.local": "STRIPE_KEY=sk_live_" + "planted2" * 3,
    "config/prod.env": "PASSWORD=planted3planted3",
    ".ssh/config": "IdentityFile planted4planted4",
    "id_ed25519": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nplanted5planted5",
    "certs/server.key": "-----BEGIN RSA " + "PRIVATE KEY-----\nplanted6planted6",
    "certs/server.pem": "-----BEGIN CERT" + "IFICATE-----\nplanted7planted7",
    ".aws/credentials": "aws_secret_access_key = planted8planted8",
    ".netrc": "machine host login me password planted9planted9",
    ".npmrc": "//registry/:_authToken=planted10planted10",
    "private/notes.py": "token = 'planted11planted11'",
    "deep/generated/a.py": "token = 'planted12planted12'",
}
EXCLUDE = ["private", "deep/generated/*.py"]


def needles() -> list[str]:
    return ["planted" + text.rpartition("planted")[2][:8].strip("'\n@/db") for text in PLANTED.values()]


def uri(name: str) -> str:
    return f"file:///project/{name}"


def test_no_planted_secret_reaches_a_prompt_the_log_or_the_store(tmp_path: Path) -> None:
    prompts, log, state = tmp_path / "prompts", tmp_path / "log", tmp_path / "state"
    with connected(state, "--prompts", str(prompts), "--log-file", str(log)) as client:
        client.start({"exclude": EXCLUDE})
        for number, (name, text) in enumerate(PLANTED.items()):
            client.open(f"{text}\n", uri=uri(name))
            client.send(change(f"{text}\n{text} ", 2, uri=uri(name)))
            for invoked in (False, True):
                assert client.ask(complete(10 + number, 1, 3, uri=uri(name), invoked=invoked)) is None
            # The same secret at other places: in malformed messages, and as names of methods and commands.
            params = {"textDocument": text, text: text, "position": {text: 1}}
            client.request(900, "textDocument/inlineCompletion", params)
            client.request(901, "workspace/executeCommand", {"command": text, "arguments": [text]})
            client.request(902, text, {"text": text})
            client.send(call(None, text, {text: text}), call(None, "textDocument/didShowCompletion", {"item": text}))
            client.send(call(None, "$/cancelRequest", {"id": text}), {"jsonrpc": "2.0", "id": text, "result": text})
            client.send(call(None, "textDocument/didChange", {"textDocument": {"uri": uri(name)}, text: [text]}))
            body = json.dumps(text).encode()[:-1]
            client.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            assert client.answer(None)["error"]["code"] == -32700
        client.notification("window/showMessage")
        client.open("x = ", uri=uri("plain.py"))
        assert client.ask(complete(903, 0, 4, uri=uri("plain.py"))) is not None
        assert client.leave() == 0
        written = [client.stderr.encode()]
    files = [prompts, log, *(file for file in state.rglob("*") if file.is_file())]
    written += [file.read_bytes() for file in files]
    assert len(written) >= 4
    assert "x = " in prompts.read_text()
    for needle in needles():
        assert [line for text in written for line in text.splitlines() if needle.encode() in line] == []


def test_the_needles_are_in_the_planted_texts() -> None:
    assert len(set(needles())) == len(PLANTED)
    assert all(needle in text for needle, text in zip(needles(), PLANTED.values(), strict=True))


@pytest.mark.parametrize("kind", ["RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
def test_a_private_key_in_an_ordinary_file_reaches_no_prompt(tmp_path: Path, kind: str) -> None:
    prompts, log = tmp_path / "prompts", tmp_path / "log"
    key = f"KEY = '''-----BEGIN {kind}-----\nplanted13planted13\nx = \n-----END {kind}-----'''\n"
    text, far = f"echo = \n{key}echo = \n", "".join(f"line_{number} = {number}\n" for number in range(600))
    with connected(tmp_path / "state", "--prompts", str(prompts), "--log-file", str(log)) as client:
        client.start()
        client.open(text + far + "echo = ", uri=uri("settings.py"))
        for number, (line, character) in enumerate(((0, 7), (3, 4), (5, 7), (6, 0))):
            for invoked in (False, True):
                asked = complete(10 + 2 * number + invoked, line, character, uri=uri("settings.py"), invoked=invoked)
                assert client.ask(asked) == []
        assert client.ask(complete(30, text.count("\n") + 600, 7, uri=uri("settings.py"))) not in (None, [])
        assert client.leave() == 0
        said = client.stderr + log.read_text()
    assert "line_599" in prompts.read_text()
    assert "planted13" not in prompts.read_text() + said
    assert log.read_text().count("private key") == 1


def test_the_setting_exclude_can_change_back_and_forth(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ", uri=uri("private/notes.py"))
        for id, exclude, offered in ((1, [], True), (2, ["private"], False), (3, ["*.txt"], True)):
            client.send(call(None, "workspace/didChangeConfiguration", {"settings": {"exclude": exclude}}))
            assert (client.ask(complete(id, 0, 4, uri=uri("private/notes.py"))) is not None) == offered
        assert client.leave() == 0


@pytest.mark.parametrize("name", [*PLANTED, "secrets.py", "a/credentials.py", "Credentials.JSON", ".pgpass", "id_rsa"])
def test_names_that_are_excluded(name: str) -> None:
    assert is_excluded(uri(name), EXCLUDE)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///c%3A/Users/me/.ENV",
        "file:///c%3A%5Cproject%5C.env",
        "vscode-remote://host/project/.env.local",
        "file:///project/server.PEM?x#y",
        "file:///home/me/.aws/sso/cache/x.json",
        "file://[project/a.py",
    ],
)
def test_other_spellings_of_excluded_names(uri: str) -> None:
    assert is_excluded(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///project/environment.py",
        "file:///project/secretary.py",
        "file:///project/credentials/form.py",
        "file:///project/key.py",
        "file:///project/private_notes.py",
        "file:///deep/generated/sub.rs",
        "untitled:Untitled-1",
        "",
    ],
)
def test_names_that_are_not_excluded(uri: str) -> None:
    assert not is_excluded(uri, EXCLUDE)


def test_a_document_with_a_malformed_uri_is_not_filled(tmp_path: Path) -> None:
    odd = "file://[project/a.py"
    with connected(tmp_path, "--context-tokens", "1000") as client:
        client.start({"disable": ["*.md"]}, root=tmp_path)
        client.open("x = ", uri=odd)
        client.send(change("x = 1 + ", 2, uri=odd))
        assert client.ask(complete(1, 0, 8, uri=odd)) is None
        spot = {"line": 0, "character": 8}
        action = {"textDocument": {"uri": odd}, "range": {"start": spot, "end": spot}, "context": {"diagnostics": []}}
        assert not client.request(2, "textDocument/codeAction", action)["result"]
        client.open("y = ")
        assert client.ask(complete(3, 0, 4)) == [TEXT]
        client.send(call(None, "textDocument/didClose", {"textDocument": {"uri": odd}}))
        assert client.leave() == 0
        assert "Traceback" not in client.stderr


def test_the_reason_for_no_suggestions_is_logged_once_without_names(tmp_path: Path) -> None:
    write_files(tmp_path / "planted", {".git/HEAD": "", ".gitignore": "made*\n", "made1.py": "", "made2.py": ""})
    with connected(tmp_path / "state") as client:
        client.start({"exclude": ["private"]})
        uris = [(tmp_path / "planted" / name).as_uri() for name in ("made1.py", "made2.py", "private/a.py", ".env")]
        for id, file in enumerate(uris):
            client.open("x = ", uri=file)
            assert client.ask(complete(id + 1, 0, 4, uri=file)) is None
        assert client.leave() == 0
        log = client.stderr
    assert [log.count(reason) for reason in (IGNORED, EXCLUDED, NAMED)] == [1, 1, 1]
    assert not [word for word in ("planted", "made", "private", ".env") if word in log]


def test_patterns_match_names_folders_and_paths() -> None:
    assert is_excluded("file:///a/Vendor/b.py", ["vendor"])
    assert is_excluded("file:///a/vendor/c/b.py", ["vendor/"])
    assert is_excluded("file:///a/x/y/b.py", ["x/y"])
    assert is_excluded("file:///a/x/y/b.py", ["*.PY"])
    assert not is_excluded("file:///a/xx/y/b.py", ["x/y"])


MODULES = ("secrets.py", "a/credentials.py", "passwords.ts", "Secret.java")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_named_like_secrets_is_withheld_from_other_files_only(name: str) -> None:
    assert is_excluded(uri(name))
    assert not is_excluded(uri(name), own=True)
    assert is_excluded(uri(f".aws/{name}"), own=True)
    assert is_excluded(uri(name), (name,), own=True)


@pytest.mark.parametrize("name", [".env", "secrets.json", "credentials", "secrets.yaml", "key.pem", "secrets.toml"])
def test_other_files_named_like_secrets_are_not_completed(name: str) -> None:
    assert is_excluded(uri(name), own=True)


def test_a_module_named_like_secrets_is_completed_until_it_holds_one(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("x = ", uri=uri("secrets.py"))
        assert client.ask(complete(1, 0, 4, uri=uri("secrets.py"))) == [TEXT]
        client.send(change('password = "swordfish"\nx = ', 2, uri=uri("secrets.py")))
        assert client.ask(complete(2, 1, 4, uri=uri("secrets.py"))) is None
        assert client.leave() == 0
