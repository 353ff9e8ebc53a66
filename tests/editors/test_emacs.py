"""A real Emacs in a terminal, set up as its README says: ghost text appears, is accepted, and the store says so."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.editors.neovim import ROOT
from tests.editors.test_nvim import LOOPS, accepted_rows, inserted, taken_rows
from tests.server import scripted

HERE = Path(__file__).parent
README = ROOT / "editors" / "emacs" / "README.md"
FETCHED = ROOT / ".cache" / "emacs"
SCRIPTED = [sys.executable, str(ROOT / "tests" / "server" / "scripted_serve.py")]
REAL = [sys.executable, "-m", "midspan.server", "serve"]
# The packages are installed, and nothing is compiled behind the test's back.
EARLY = """\
(setq package-directory-list '("{packages}") inhibit-startup-screen t)
(setq native-comp-jit-compilation nil native-comp-enable-subr-trampolines nil)
{more}
"""
# The driver waits for the state `ready`.
STATUS = "(setq midspan-settings '(:status t))"
SURE = "(setq midspan-settings '(:status t :show_threshold 0))"
EGLOT_STATUS = "(setq-default eglot-workspace-configuration '(:midspan (:status t)))"
Step = tuple[str, str | None]
SECONDS = 110

pytestmark = [pytest.mark.emacs, pytest.mark.timeout(SECONDS + 20)]


@pytest.fixture(scope="session")
def emacs() -> str:
    """The command of the fetched Emacs, beside which lsp-mode is."""
    if not (FETCHED / "emacs").exists():
        pytest.fail("no Emacs: run make emacs", pytrace=False)
    return str(FETCHED / "emacs")


# What the README says to put into init.el: with lsp-mode, and with eglot.
LSP_MODE, EGLOT = re.findall(r"```elisp\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def settle_in(home: Path, server: list[str], init: str, more: str) -> None:
    """A new user's home: an init.el, and a clone where the README says that one is."""
    midspan = home / "src/midspan/.venv/bin/midspan"
    for folder in (midspan.parent, home / "src/midspan/editors", home / ".emacs.d", home / "project" / ".git"):
        folder.mkdir(parents=True)
    (home / "src/midspan/editors/emacs").symlink_to(README.parent)
    state = home / "state"
    words = " ".join([*server, "--state-dir", str(state)])
    midspan.write_text(f'#!/bin/sh\n[ "$*" = serve ] || exit 64\nexec {words}\n', encoding="utf-8")
    midspan.chmod(0o755)
    early = EARLY.format(packages=FETCHED / "usr/share/emacs/site-lisp/elpa-src", more=more)
    (home / ".emacs.d" / "early-init.el").write_text(early, encoding="utf-8")
    (home / ".emacs.d" / "init.el").write_text(init, encoding="utf-8")


def on_a_terminal(command: list[str], home: Path) -> tuple[int, str]:
    """The exit status of a program that has a terminal of 80 columns, and all that it drew there."""
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    environment = os.environ | {"HOME": str(home), "MIDSPAN_CASE": str(home / "case.json")}
    environment |= {"TERM": "xterm", "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT / "src")}
    environment["PATH"] = f"{home / 'bin'}:{environment['PATH']}"
    program = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command], env=environment, cwd=home, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    drawn, deadline = bytearray(), time.monotonic() + SECONDS
    try:
        while select.select([ours], [], [], max(deadline - time.monotonic(), 0))[0]:
            drawn += os.read(ours, 65536)
    except OSError:
        # Linux says so when the last program has let go of the terminal.
        pass
    finally:
        os.close(ours)
    return program.wait(timeout=10), drawn.decode(errors="replace")


# A new user's project: lsp-mode asks for its root first.
START: list[Step] = [("asked", "not part of any project"), ("keys", "i"), ("attached", None), ("ready", None)]


def drive(
    emacs: str, home: Path, text: str, steps: list[Step], *,
    server: list[str] = SCRIPTED, init: str = LSP_MODE, more: str = STATUS,
) -> tuple[list[str], str]:  # fmt: skip
    """Open `text`, take the steps (see driver.el); the ghost texts that were seen, and what was drawn."""
    settle_in(home, server, init, more)
    file, result = home / "project" / "sample.py", home / "result.json"
    file.write_bytes(text.encode())
    case = {"file": str(file), "steps": steps, "timeout_s": 40, "result": str(result)}
    (home / "case.json").write_text(json.dumps(case), encoding="utf-8")
    status, drawn = on_a_terminal([emacs, "-nw", "-l", str(HERE / "emacs" / "driver.el"), str(file)], home)
    assert result.exists(), drawn
    seen = json.loads(result.read_text(encoding="utf-8"))
    assert "trouble" not in seen, seen["trouble"]
    assert status == 0
    return seen["ghosts"], drawn


def shown_rows(state_dir: Path) -> list[tuple[bool, bool]]:
    """Of each offer, whether it was shown, and whether it was accepted."""
    store = sqlite3.connect(state_dir / "telemetry.db")
    try:
        return store.execute("SELECT shown & 1, accepted_ts IS NOT NULL FROM completion ORDER BY ts").fetchall()
    finally:
        store.close()


def end_of(row: int) -> Step:
    """Go to the end of the 1-based row."""
    return ("keys", f"M-g g {row} RET C-e")


def test_ghost_text_is_shown_and_accepted(emacs: str, tmp_path: Path) -> None:
    text = "def add(a, b):\n    ret\n\n\nadd(1, 2)\n"
    typed = text.replace("ret", "return ")
    taken = text.replace("ret", f"return {scripted.TEXT}")
    steps: list[Step] = [
        end_of(2), ("type", "urn "), ("ghost", scripted.TEXT), ("keys", "TAB"), ("text", taken), ("ghost", ""),
        ("keys", "C-/"), ("text", typed),
    ]  # fmt: skip
    _, drawn = drive(emacs, tmp_path, text, [*START, *steps])
    assert scripted.TEXT in drawn
    assert shown_rows(tmp_path / "state") == [(True, True)]


def test_a_suggestion_is_taken_word_by_word_and_line_by_line(emacs: str, tmp_path: Path) -> None:
    head, line = "def lines(left, right):\n", f"    {scripted.TEXT}\n"
    steps: list[Step] = [
        end_of(2), ("type", "    "), ("ghost", f"{scripted.TEXT}\n{line}"[:-1]),
        ("keys", "M-<right>"), ("text", f"{head}    list\n"), ("ghost", f" + range\n{line}"[:-1]),
        ("keys", "M-<right>"), ("text", f"{head}    list +\n"), ("ghost", f" range\n{line}"[:-1]),
        ("keys", "C-M-<right>"), ("text", head + line), ("ghost", f"\n{line}"[:-1]),
        ("keys", "C-M-<right>"), ("text", head + line + line), ("keys", "C-/"), ("text", head + line),
    ]  # fmt: skip
    drive(emacs, tmp_path, f"{head}\n", [*START, *steps])
    [(partial, accepted), *_] = taken_rows(tmp_path / "state")
    assert (partial, accepted is not None) == (len(scripted.TEXT), True)


def test_where_there_is_none_tab_is_as_ever(emacs: str, tmp_path: Path) -> None:
    drive(emacs, tmp_path, "if x:\ny\n", [*START, end_of(2), ("keys", "TAB"), ("text", "if x:\n    y\n")])


def test_next_and_previous_go_round(emacs: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        end_of(1), ("keys", "C-c m"), ("ghost", scripted.TEXT), ("keys", "C-n"), ("ghost", "slice"),
        ("keys", "C-n"), ("ghost", "tuple"), ("keys", "C-n"), ("ghost", scripted.TEXT), ("keys", "C-p"),
        ("ghost", "tuple"), ("keys", "C-p"), ("ghost", "slice"), ("keys", "TAB"), ("text", "several = slice\n"),
    ]  # fmt: skip
    drive(emacs, tmp_path, "several = \n", [*START, *steps])
    assert accepted_rows(tmp_path / "state").count(True) == 1


def test_it_is_taken_away_and_nothing_changes(emacs: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        end_of(1), ("type", " "), ("ghost", scripted.TEXT), ("keys", "C-g"), ("ghost", ""), ("text", "gone =  \n"),
        ("type", "1"), ("text", "gone =  1\n"),
    ]  # fmt: skip
    drive(emacs, tmp_path, "gone = \n", [*START, *steps])
    assert shown_rows(tmp_path / "state")[0] == (True, False)


def test_what_is_typed_along_it_is_not_there_twice(emacs: str, tmp_path: Path) -> None:
    first, rest = scripted.TEXT[:3], scripted.TEXT[3:]
    steps: list[Step] = [
        end_of(1), ("type", " "), ("ghost", scripted.TEXT), ("type", first), ("ghost", rest), ("keys", "TAB"),
        ("text", f"along =  {scripted.TEXT}\n"),
    ]  # fmt: skip
    drive(emacs, tmp_path, "along = \n", [*START, *steps])


def test_letters_of_all_planes_may_stand_before_the_cursor(emacs: str, tmp_path: Path) -> None:
    text = '# é\nname = "é𝄞ß" + \n'
    taken = text.replace("+ ", f"+  {scripted.TEXT}")
    steps: list[Step] = [end_of(2), ("type", " "), ("ghost", scripted.TEXT), ("keys", "TAB"), ("text", taken)]
    drive(emacs, tmp_path, text, [*START, *steps])


def test_several_lines_keep_the_line_ends_of_the_file(emacs: str, tmp_path: Path) -> None:
    text = "def lines(left, right):\r\n\r\n\r\nprint(1)\r\n"
    line = f"    {scripted.TEXT}"
    steps: list[Step] = [
        end_of(2), ("type", "    "), ("ghost", f"{scripted.TEXT}\n{line}"), ("keys", "TAB"), ("keys", "C-x C-s"),
        ("asked", "Wrote"),
    ]  # fmt: skip
    drive(emacs, tmp_path, text, [*START, *steps])
    written = (tmp_path / "project" / "sample.py").read_bytes().decode()
    assert written == text.replace("\r\n\r\n\r\n", f"\r\n{line}\r\n{line}\r\n\r\n")


def test_a_killed_server_is_started_again_when_one_says_so(emacs: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ("killed", None), ("asked", "midspan.* exited .*restart it"), ("keys", "y"), end_of(1), ("ready", None),
        ("type", " "), ("ghost", scripted.TEXT),
    ]  # fmt: skip
    drive(emacs, tmp_path, "again = \n", [*START, *steps])


TOTAL = "def total(items):\n    result = sum(items)\n    return result\n"
REFILLED = TOTAL.replace("result = sum(items)", scripted.TEXT)


def test_a_region_is_rewritten_and_undone_in_one_step(emacs: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ("keys", "M-g g 2 RET M-m C-SPC C-e M-x lsp-execute-code-action RET"), ("asked", "Select code action"),
        ("type", "midspan: refill the selection\r"), ("text", REFILLED), ("keys", "C-/"), ("text", TOTAL),
    ]  # fmt: skip
    drive(emacs, tmp_path, TOTAL, [*START, *steps])


def test_another_server_is_not_asked_for_what_is_midspans(emacs: str, tmp_path: Path) -> None:
    """Ruff complains of a command and of an action that it does not know."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ruff").symlink_to(Path(sys.executable).parent / "ruff")
    begun = TOTAL + "beside = "
    steps: list[Step] = [
        end_of(4), ("type", " "), ("ghost", scripted.TEXT), ("keys", "TAB"), ("text", f"{begun} {scripted.TEXT}"),
        ("keys", "M-g g 2 RET M-m C-SPC C-e M-x lsp-execute-code-action RET"), ("asked", "Select code action"),
        ("type", "midspan: refill the selection\r"), ("text", f"{REFILLED}beside =  {scripted.TEXT}"),
        ("unsaid", "Ruff encountered a problem"),
    ]  # fmt: skip
    drive(emacs, tmp_path, begun, [*START, *steps])
    assert True in accepted_rows(tmp_path / "state")


def test_eglot_rewrites_a_region_too(emacs: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ("keys", "M-x eglot RET"), ("ready", None),
        ("keys", "M-g g 2 RET M-m C-SPC C-e M-x eglot-code-actions RET"), ("asked", "Pick an action"),
        ("type", "midspan: refill the selection\r"), ("text", REFILLED), ("keys", "C-/"), ("text", TOTAL),
    ]  # fmt: skip
    drive(emacs, tmp_path, TOTAL, steps, init=EGLOT, more=EGLOT_STATUS)


def test_the_embedded_model_completes(emacs: str, tmp_path: Path) -> None:
    steps: list[Step] = [end_of(7), ("type", " nam"), ("ghost", None), ("keys", "TAB C-x C-s"), ("asked", "Wrote")]
    [ghost], _ = drive(emacs, tmp_path, LOOPS, [*START, *steps], server=REAL, more=SURE)
    typed = LOOPS.replace("name in\n", "name in nam\n")
    after = (tmp_path / "project" / "sample.py").read_text(encoding="utf-8")
    assert after.splitlines() == inserted(typed.splitlines(), 7, ghost.split("\n"))
    assert accepted_rows(tmp_path / "state").count(True) == 1
