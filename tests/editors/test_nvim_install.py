"""A real Neovim: the plugin as README.md has it installed, what loading does, wrong options, and the help."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.editors.neovim import HERE, PATIENCE_MS, PLUGIN, ROOT, logged, run_nvim, scripted
from tests.server import scripted as engine

README = (PLUGIN / "README.md").read_text(encoding="utf-8")
HELP = (PLUGIN / "doc" / "midspan.txt").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```lua\n(.*?)```", README, re.DOTALL)
BY_PATH, BY_PACK, BY_LAZY, STATUSLINE, OWN_KEY, SERVERS = BLOCKS
# What lazy.nvim does with a spec of this kind.
LAZY = """
local spec = (function() {spec} end)()
vim.opt.runtimepath:append(vim.fn.expand(spec.dir))
vim.cmd.source(vim.fn.expand(spec.dir) .. '/plugin/midspan.lua')
require(spec.main).setup(spec.opts)
"""
# Nobody is there to confirm what vim.pack asks.
CONFIRMED = "vim.fn.confirm = function() return 1 end\n"


def make_clone(home: Path) -> None:
    """The clone that README.md speaks of, with the scripted server in it."""
    clone = home / "src" / "midspan"
    shutil.copytree(PLUGIN, clone / "editors" / "nvim", ignore=shutil.ignore_patterns("tags"))
    git = ["git", "-C", str(clone), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        subprocess.run([*git, *command], check=True, timeout=60)
    make_program(clone / ".venv" / "bin", home)


def make_program(folder: Path, home: Path) -> None:
    """A program `midspan` in a folder."""
    folder.mkdir(parents=True)
    program = folder / "midspan"
    python, script, _, *rest = scripted(home)
    program.write_text(f'#!/bin/sh\nexec {python} {script} "$@" {" ".join(rest)}\n')
    program.chmod(0o755)


def play(nvim: str, home: Path, init: str, **variables: str) -> dict[str, Any]:
    """What install.lua sees in a home folder with this init.lua."""
    file, told, result = home / "sample.py", home / "case.json", home / "result.json"
    file.write_text("\n")
    (home / "config" / "nvim").mkdir(parents=True)
    (home / "config" / "nvim" / "init.lua").write_text(init)
    told.write_text(json.dumps({"timeout_ms": PATIENCE_MS, "result": str(result)}))
    arguments = [str(file), "-S", str(HERE / "nvim" / "install.lua")]
    ended = run_nvim(nvim, home, arguments, plain=False, MIDSPAN_CASE=str(told), **variables)
    assert result.exists(), ended.stderr
    seen: dict[str, Any] = json.loads(result.read_text())
    assert "trouble" not in seen, f"{seen}\n{ended.stderr}\n{logged(home)}"
    return seen


@pytest.mark.parametrize(
    "init",
    [BY_PATH, CONFIRMED + BY_PACK, LAZY.replace("{spec}", BY_LAZY)],
    ids=["by path", "vim.pack", "lazy.nvim's way"],
)
def test_it_is_installed_as_the_readme_says(nvim: str, tmp_path: Path, init: str) -> None:
    make_clone(tmp_path)
    seen = play(nvim, tmp_path, init + STATUSLINE)
    assert (seen["ghost"], seen["after"]) == ([engine.TEXT], [f"x = {engine.TEXT}"])
    assert "midspan: ready: scripted on cpu" in seen["messages"]
    assert "midspan: ready" in seen["statusline"]


def test_a_program_on_path_and_the_readmes_settings_and_key(nvim: str, tmp_path: Path) -> None:
    make_program(tmp_path / "bin", tmp_path)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    # The last call of `setup` counts.
    init = f"vim.opt.runtimepath:append('{PLUGIN}')\nrequire('midspan').setup()\n{OWN_KEY}{SERVERS}"
    seen = play(nvim, tmp_path, init, PATH=path)
    assert (seen["after"], seen["filetypes"]) == ([f"x = {engine.TEXT}"], ["python", "go"])


def loaded(nvim: str, tmp_path: Path) -> dict[str, Any]:
    result = tmp_path / "result.json"
    ended = run_nvim(
        nvim, tmp_path, ["-S", str(HERE / "nvim" / "lazy.lua")],
        MIDSPAN_PLUGIN=str(PLUGIN), MIDSPAN_RESULT=str(result),
    )  # fmt: skip
    assert result.exists(), ended.stderr
    seen: dict[str, Any] = json.loads(result.read_text())
    return seen


def test_loading_makes_names_alone_and_requiring_makes_nothing(nvim: str, tmp_path: Path) -> None:
    seen = loaded(nvim, tmp_path)
    before, sourced, required = seen["before"], seen["sourced"], seen["required"]
    insert = ["accept", "accept-line", "accept-word", "ask", "dismiss", "next", "prev"]
    plugs = [f"i<Plug>(midspan-{name})" for name in insert]
    plugs += [f"{mode}<Plug>(midspan-{name})" for mode in "nx" for name in ("fix", "rewrite")]
    assert sourced == before | {"commands": sorted([*before["commands"], "Midspan"]), "plugs": sorted(plugs)}
    assert seen["modules"] == len(required["loaded"]) > 10
    assert required | {"loaded": []} == sourced


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{ acept = 'x' }", 'midspan: unknown option "acept": use accept, accept_line, accept_word, ask, config, '),
        ("{ accept = 3 }", "midspan: option accept must be a key such as <Tab>, or false, not 3"),
        ("{ next = '' }", 'midspan: option next must be a key such as <Tab>, or false, not ""'),
        ("{ menu = 'show' }", "midspan: option menu must be 'hide', 'keep' or 'ignore', not \"show\""),
        ("{ draft = 'yes' }", 'midspan: option draft must be a boolean, not "yes"'),
        ("{ preview_accept = false }", "midspan: option preview_accept must be a key such as <CR>, not false"),
        ("{ config = 'midspan' }", 'midspan: option config must be a table, not "midspan"'),
        ("'midspan'", 'midspan: setup takes a table, not "midspan": use setup({ accept = "<Tab>" })'),
    ],
)
def test_a_wrong_option_is_named_with_what_it_may_be(nvim: str, tmp_path: Path, options: str, said: str) -> None:
    set_up = f"lua require('midspan').setup({options})"
    ended = run_nvim(nvim, tmp_path, ["--cmd", f"set runtimepath+={PLUGIN}", "-c", set_up, "-c", "cq"])
    assert said in ended.stderr


def test_readme_and_help_have_every_option_with_its_default(nvim: str, tmp_path: Path) -> None:
    defaults = {name: value.replace('"', "'") for name, value in loaded(nvim, tmp_path)["defaults"].items()}
    assert dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", README, re.MULTILINE)) == defaults
    assert dict(re.findall(r"^(\w+) +\(default (.+?)\) +\*midspan-\1\*$", HELP, re.MULTILINE)) == defaults


def test_the_help_has_its_tags(nvim: str, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN / "doc", tmp_path / "doc")
    # A link that leads nowhere would be one to a tag of Neovim's own.
    links = {link for link in re.findall(r"\|(\S+?)\|", HELP) if "midspan" in link.lower()}
    shown = [f"help {tag}" for tag in sorted({*links, "midspan.txt"})]
    arguments = ["--cmd", f"set runtimepath+={tmp_path}", "-c", f"helptags {tmp_path / 'doc'}"]
    ended = run_nvim(nvim, tmp_path, [*arguments, "-c", " | ".join(shown), "-c", "cq 7"])
    assert (ended.returncode, ended.stderr) == (7, "")
    tags = {line.split("\t")[0] for line in (tmp_path / "doc" / "tags").read_text().splitlines()}
    commands = (ROOT / "editors/nvim/lua/midspan/commands.lua").read_text(encoding="utf-8")
    named = re.findall(r"^  (\w+) = \{", commands.split("local subcommands")[1].split("\n}")[0], re.MULTILINE)
    assert {f":Midspan-{name}" for name in named} <= tags
    functions = re.findall(r"^function M\.(\w+)\(", (PLUGIN / "lua/midspan/init.lua").read_text(), re.MULTILINE)
    assert {f"midspan.{name}()" for name in functions if name != "setup"} <= tags
