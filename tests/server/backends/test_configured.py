"""Engines on other servers as a user names them: what a file may hold, and who may name an address."""

from __future__ import annotations

from pathlib import Path

import pytest

from midspan.engine.api import RemoteError
from midspan.server.backends.configured import NOTHING, both, configured_by, configured_file, read_configured
from midspan.server.backends.remotes import member_of, remote_of
from midspan.server.commands.errors import CommandError
from midspan.server.router.policy import DEFAULT, Policy
from midspan.server.settings import DEFAULTS, changed_settings, configured_in, read_settings

QWEN = {"name": "qwen", "kind": "llama-server", "address": "http://127.0.0.1:9931"}
FILE = """
# What I run here.
[[backends]]
name = "qwen"
kind = "llama-server"
address = "http://127.0.0.1:9931"
exclude = ["secret.py"]

[[backends]]
name = "team"
kind = "vllm-diffusion"
address = "https://gpu.example.org"
model = "diffusiongemma"
key_variable = "TEAM_KEY"

[policy]
privacy = "private"
[policy.prefer]
line_end = ["qwen"]
"""


def test_a_file_names_engines_and_changes_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FILE)
    found = read_configured(file)
    assert [(one.name, by) for one, by in found.backends] == [("qwen", "configuration"), ("team", "configuration")]
    members = [member_of(one, by) for one, by in found.backends]
    assert [(one.tier, one.reading, one.exclude) for one in members] == [
        ("loopback", "autoregressive", ("secret.py",)),
        ("public", "diffusion", ()),
    ]
    assert found.policy == Policy(privacy="private", prefer={**DEFAULT.prefer, "line_end": ("qwen",)})


def test_a_probe_without_the_key_says_that_it_is_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_KEY", raising=False)
    [(team, by)] = configured_by({"backends": [QWEN | {"key_variable": "TEAM_KEY"}]}, "editor", "here").backends
    with pytest.raises(RemoteError, match="TEAM_KEY holds no key") as raised:
        member_of(team, by).probe()
    assert raised.value.status == 401


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert read_configured(tmp_path / "config.toml") == NOTHING
    assert configured_file({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "midspan" / "config.toml"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("backends = 3", "`backends` is no list; write [[backends]] above each engine's keys"),
        ("[[backends]]\nname =", "no TOML: "),
        (
            "checkpoint = 'x'",
            "unknown 'checkpoint'; known are `backends` and `policy`; what `midspan models use` chose",
        ),
        ("[[backends]]\nname = 'a'\nkind = 'ollama'", "backends[0]: it has no required field `address`"),
        ("[[backends]]\nname = 'a'\nkind = 'ollama'\naddress = ''\nadress = ''", "it has unknown field `adress`"),
        (
            "[[backends]]\nname = 'a b'\nkind = 'ollama'\naddress = ''",
            "- at `$.name`; correct it (known keys: name, kind,",
        ),
        ("[[backends]]\nname = 'auto'\nkind = 'ollama'\naddress = ''", "auto is midspan's own name; give another"),
        ("[[backends]]\nname = 'a'\nkind = 'olama'\naddress = ''", "(a): kind is olama; give one of llama-server,"),
        ("[[backends]]\nname = 'a'\nkind = 'llama-server'\naddress = 'here'", "(a): address is no address of a server"),
        (
            "[[backends]]\nname = 'a'\nkind = 'llama-server'\naddress = 'http://10.0.0.7:8012'",
            "what is sent can be read on the way; use https, or set insecure",
        ),
        (f"[[backends]]\n{'x'}" + "\xff", "no TOML: "),
        ("[policy]\nspeed = 1", "policy: it has unknown field `speed`; docs/router.md has every key"),
        ("[policy.circuit]\nfailures = 0", "policy: Expected `int` >= 1 - at `$.circuit.failures`"),
        ("[policy.prefer]\nlines = ['a']", "policy: Invalid enum value 'lines'"),
        ("policy = 3", "`policy` is no table; write [policy] above its keys"),
    ],
)
def test_a_bad_file_is_one_line_with_the_fix(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(written.encode("latin-1"))
    with pytest.raises(CommandError) as refused:
        read_configured(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", ["key", "api_key", "API-KEY", "token"])
def test_a_literal_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(CommandError) as refused:
        configured_by({"backends": [{**QWEN, key: "sk-live-1234"}]}, "configuration", "config.toml")
    assert f"`{key}`: no file holds a key; put the key into an environment variable" in str(refused.value)
    assert "sk-live" not in str(refused.value)


@pytest.mark.parametrize("key", ["sk-live-1234", "sk_live_abcd", "A" * 80])
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(CommandError) as refused:
        configured_by({"backends": [{**QWEN, "key_variable": key}]}, "configuration", "config.toml")
    assert "never the key itself" in str(refused.value)
    assert key not in str(refused.value)


def test_a_key_may_be_in_the_keyring() -> None:
    found = configured_by({"backends": [{**QWEN, "key": "keyring:team/llm"}]}, "configuration", "config.toml")
    [(backend, _)] = found.backends
    assert remote_of(backend).keyring == "team/llm"
    for wrong in ("keyring:", "keyring:two words", "keyring:" + "a" * 65):
        with pytest.raises(CommandError, match="key names no service of the keyring"):
            configured_by({"backends": [{**QWEN, "key": wrong}]}, "configuration", "config.toml")
    twice = {**QWEN, "key": "keyring:team", "key_variable": "TEAM_KEY"}
    with pytest.raises(CommandError, match="leave one of them out"):
        configured_by({"backends": [twice]}, "configuration", "config.toml")


def test_two_engines_have_two_names() -> None:
    with pytest.raises(CommandError, match="two engines are named qwen; give each its own name"):
        configured_by({"backends": [QWEN, QWEN]}, "configuration", "config.toml")


def test_initialization_options_add_engines_by_the_same_schema() -> None:
    file = configured_by({"backends": [QWEN]}, "configuration", "config.toml")
    editor = configured_in({"backends": [{**QWEN, "address": "http://127.0.0.1:1"}, {**QWEN, "name": "two"}]})
    found = both(file, editor)
    assert [(one.name, one.address, by) for one, by in found.backends] == [
        ("qwen", "http://127.0.0.1:9931", "configuration"),
        ("two", "http://127.0.0.1:9931", "editor"),
    ]
    with pytest.raises(CommandError, match=r"^initializationOptions: backends\[0\]: it has unknown field `url`"):
        configured_in({"backends": [{**QWEN, "url": ""}]})
    assert read_settings({"backends": [QWEN], "policy": {}, "steps": 3}).problem is None


@pytest.mark.parametrize("key", ["backends", "policy"])
def test_a_workspace_adds_no_address(key: str) -> None:
    # It reaches the server as every later section does: workspace/configuration and didChangeConfiguration.
    first = read_settings({})
    reading = changed_settings(DEFAULTS, first.options, {key: [QWEN], "engine": "qwen"}, "workspace/configuration")
    assert reading.problem is not None
    assert f"`{key}` may stand in your own config.toml or in the initialization options only" in reading.problem
    assert reading.settings.engine == "qwen"
    assert key not in reading.options


def test_privacy_that_cannot_be_read_lets_nothing_out() -> None:
    assert read_settings({"privacy": "everything"}).settings.privacy == "in_process"


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "config.toml"
    folder.mkdir()
    with pytest.raises(CommandError, match="make it readable or remove it"):
        read_configured(folder)
