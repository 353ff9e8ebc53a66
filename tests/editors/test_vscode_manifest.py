"""VS Code's manifest agrees with the server: settings, defaults, bounds, languages, version."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import midspan
from midspan.server.cli import main
from midspan.server.settings import DEFAULTS, Settings
from midspan.server.text.languages import TABLE, name_of

EXTENSION = Path(__file__).parents[2] / "editors" / "vscode"
MANIFEST = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
CONTRIBUTED = MANIFEST["contributes"]["configuration"]["properties"]
PROPERTIES: dict[str, dict[str, Any]] = {name.removeprefix("midspan."): value for name, value in CONTRIBUTED.items()}
BOUNDS = ("minimum", "maximum")
# Settings that the extension itself reads, and those that it always sends.
OWN = {"path", "interpreter", "checkpoint", "device", "trace.server"}
SENT = {"status"}


def test_the_manifest_has_the_servers_settings() -> None:
    assert PROPERTIES.keys() - OWN == set(Settings.__struct_fields__) - SENT


def test_the_manifest_has_the_servers_defaults() -> None:
    ours = json.loads(msgspec.json.encode(DEFAULTS))
    assert {name: PROPERTIES[name]["default"] for name in PROPERTIES.keys() - OWN} == {
        name: value for name, value in ours.items() if name not in SENT
    }


def test_the_manifest_has_the_servers_bounds() -> None:
    schema = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    for name in PROPERTIES.keys() - OWN:
        kinds = schema[name].get("anyOf", [schema[name]])
        bounds = {bound: kind[bound] for kind in kinds for bound in BOUNDS if bound in kind}
        assert {bound: PROPERTIES[name][bound] for bound in BOUNDS if bound in PROPERTIES[name]} == bounds


def test_the_extension_sends_each_setting_of_the_server() -> None:
    source = (EXTENSION / "src" / "settings.ts").read_text(encoding="utf-8")
    [names] = re.findall(r"SERVERS = \[(.*?)\]", source, re.DOTALL)
    assert set(re.findall(r"'(\w+)'", names)) == set(Settings.__struct_fields__) - SENT


def test_the_extension_activates_for_every_language_of_the_server() -> None:
    events = [event.removeprefix("onLanguage:") for event in MANIFEST["activationEvents"]]
    assert {name_of(event) for event in events} == {language.name for language in TABLE}


def test_settings_that_name_a_program_a_checkpoint_or_an_engine_need_a_trusted_folder() -> None:
    trust = MANIFEST["capabilities"]["untrustedWorkspaces"]
    assert trust["supported"] == "limited"
    restricted = {f"midspan.{name}" for name in ("path", "interpreter", "checkpoint", "engine", "privacy")}
    assert set(trust["restrictedConfigurations"]) == restricted


def test_a_folder_cannot_let_text_travel_further() -> None:
    assert PROPERTIES["privacy"]["scope"] == "machine"
    # A server that runs widens it for nobody, so a change by the user needs another one.
    source = (EXTENSION / "src" / "settings.ts").read_text(encoding="utf-8")
    [names] = re.findall(r"STARTED_WITH = \[(.*?)\]", source, re.DOTALL)
    assert "'privacy'" in names


def test_extension_and_package_have_one_version() -> None:
    assert MANIFEST["version"] == midspan.__version__


def test_each_command_is_registered() -> None:
    source = (EXTENSION / "src" / "commands.ts").read_text(encoding="utf-8")
    [table] = re.findall(r"const commands: .*? = \{(.*?)\n  \};", source, re.DOTALL)
    registered = set(re.findall(r"^    (\w+):", table, re.MULTILINE))
    assert registered == {one["command"].removeprefix("midspan.") for one in MANIFEST["contributes"]["commands"]}


def test_source_files_stay_short() -> None:
    files = sorted((EXTENSION / "src").glob("*.ts"))
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines >= 200} == {}


def test_the_extension_reads_keys_that_the_list_of_models_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json", "--no-estimate"]) == 0
    listed = json.loads(capsys.readouterr().out)
    source = (EXTENSION / "src" / "models.ts").read_text(encoding="utf-8")
    [model, listing] = re.findall(r"interface \w+ \{\n(.*?)\n\}", source, re.DOTALL)
    assert set(re.findall(r"^  readonly (\w+):", model, re.MULTILINE)) <= listed["at_hand"][0].keys()
    assert set(re.findall(r"^  readonly (\w+):", listing, re.MULTILINE)) <= listed.keys()
    assert {"get", "fits"} <= listed["to_fetch"][0].keys()
