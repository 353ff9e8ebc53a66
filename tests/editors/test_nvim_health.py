"""A real Neovim: what `:checkhealth midspan` says where all is well, and where something needs a fix."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import midspan
from tests.editors.neovim import PLUGIN, Stage, run_nvim, scripted


@pytest.fixture
def stage(nvim: str, tmp_path: Path) -> Stage:
    return Stage(nvim, tmp_path, "health.lua")


def test_all_is_well_with_a_server(stage: Stage) -> None:
    health = stage.play("well", "x = 1\n")["health"]
    assert "ERROR" not in health
    assert "OK Neovim 0.12" in health
    assert f"OK server: {sys.executable}" in health
    assert f"OK midspan {midspan.__version__}" in health
    assert "is ready: scripted on cpu" in health
    assert "attached to sample.py (1)" in health
    assert "OK checkpoint scripted" in health
    assert "OK device cpu (float32)" in health
    assert "the checkpoint knows python" in health
    assert "the server starts for python" in health


def test_a_program_that_is_not_there_is_an_error_with_advice(stage: Stage) -> None:
    health = stage.play("at_once", server=["no-such-midspan", "serve"])["health"]
    assert "ERROR there is no program no-such-midspan" in health
    assert "name its program in setup({ config = { cmd =" in health
    assert "OK checkpoint" not in health


def test_a_program_that_does_not_run_is_an_error_with_what_it_said(stage: Stage, tmp_path: Path) -> None:
    program = tmp_path / "midspan"
    program.write_text("#!/bin/sh\necho no such torch >&2\nexit 3\n")
    program.chmod(0o755)
    health = stage.play("at_once", server=[str(program), "serve"])["health"]
    assert f"ERROR {program} does not run: no such torch" in health


def test_an_old_program_is_an_error(stage: Stage, tmp_path: Path) -> None:
    program = tmp_path / "midspan"
    program.write_text("#!/bin/sh\n[ $1 = --version ] && echo 0.0.9\n")
    program.chmod(0o755)
    health = stage.play("at_once", server=[str(program), "serve"])["health"]
    assert "ERROR midspan 0.0.9 is older than 0.1.0" in health


def test_what_the_doctor_wants_fixed_is_an_error(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    server = [*scripted(tmp_path)[:-1], str(tmp_path / "file" / "state")]
    health = stage.play("at_once", server=server)["health"]
    assert "give another --state-dir" in health.split("ERROR")[1]


def test_a_plugin_that_is_not_set_up_is_a_warning(nvim: str, tmp_path: Path) -> None:
    ended = run_nvim(
        nvim, tmp_path,
        ["--cmd", f"set runtimepath+={PLUGIN}", "-c", "checkhealth midspan", "-c", "%print", "-c", "cq"],
    )  # fmt: skip
    assert "WARNING midspan is not set up" in ended.stdout
    assert "call require('midspan').setup() in init.lua" in ended.stdout
