"""Time from a key to ghost text that is drawn, in a real Neovim on a terminal.

`.venv/bin/python benchmarks/record.py neovim_latency.py [--samples N]`, after `make nvim`: the plugin, the real server
and the embedded model. A key is written to the terminal; its time ends when Neovim writes characters in ghost text's
colour there, which nothing else has. `server_ms` is the server's share of the same requests, from its telemetry store.
Of the rest, Neovim itself waits about 200 ms after a key before it asks.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from editor_latency import quantiles

ROOT = Path(__file__).parents[1]
FETCHED = ROOT / ".cache/nvim/nvim"
# Neovim writes a colour as its three numbers, with semicolons or colons between them.
COLOUR, DRAWN = "#010203", re.compile(rb"38[;:]2[;:]+1[;:]2[;:]3m")
WAIT_S, QUIET_S, START_S = 1.5, 0.4, 120.0
# Beginnings of lines to be typed below the file, and their last keys.
LINES = (
    ("for item in", " "), ("names = [item.", "n"), ("total = sum(", "n"), ("if item.", "n"),
    ("return sorted(", "n"), ("print(", "n"), ("items = list(", "n"), ("assert total =", " "),
)  # fmt: skip
INIT = """\
vim.opt.runtimepath:append({plugin!r})
vim.opt.termguicolors = true
vim.opt.autoindent = false
vim.api.nvim_set_hl(0, 'ComplHint', {{ fg = {colour!r} }})
vim.cmd('filetype indent off')
require('midspan').setup({{
  config = {{
    cmd = {{ {python!r}, '-m', 'midspan.server', 'serve', '--state-dir', {state!r} }},
    init_options = {{ show_threshold = 0 }},
  }},
}})
"""


@dataclass(frozen=True, slots=True)
class Screen:
    """The terminal's other end."""

    file: int

    def write(self, keys: str) -> None:
        """Press keys."""
        os.write(self.file, keys.encode())

    def quiet(self) -> None:
        """Read until nothing has been drawn for a while."""
        while select.select([self.file], [], [], QUIET_S)[0]:
            os.read(self.file, 65536)

    def ghost_ms(self, key: str) -> float | None:
        """Milliseconds from this key until ghost text is drawn; None if there is none in time."""
        drawn, began = b"", time.perf_counter()
        self.write(key)
        while (left := began + WAIT_S - time.perf_counter()) > 0:
            if select.select([self.file], [], [], left)[0]:
                drawn += os.read(self.file, 65536)
                if DRAWN.search(drawn):
                    return (time.perf_counter() - began) * 1000
        return None


@contextmanager
def neovim(command: str, home: Path) -> Iterator[Screen]:
    """A Neovim on a terminal, in whose file the server is ready. Raises SystemExit where it does not get so far."""
    init, file, address = home / "init.lua", home / "inventory.py", str(home / "socket")
    state = str(home / "midspan")
    init.write_text(
        INIT.format(plugin=str(ROOT / "editors/nvim"), colour=COLOUR, python=sys.executable, state=state),
        encoding="utf-8",
    )
    shutil.copy(ROOT / "fixtures/demo/inventory.py", file)
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (40, 100))
    environment = os.environ | {f"XDG_{kind}_HOME": str(home / kind) for kind in ("CONFIG", "DATA", "STATE", "CACHE")}
    environment |= {"HOME": str(home), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT / "src")}
    run = [command, "-u", str(init), "-i", "NONE", "-n", "--headless", "--listen", address, str(file)]
    editor = subprocess.Popen(run, env=environment, cwd=home, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    screen, end = Screen(ours), time.monotonic() + START_S
    while not _is_ready(command, address):
        if time.monotonic() > end:
            editor.kill()
            sys.exit(f"Neovim or the server was not ready within {START_S:.0f} s")
    # Neovim's own terminal, as a process beside the editor, as it is when it is started plainly.
    drawing = ["setsid", "--ctty", "--wait", command, "--server", address, "--remote-ui"]
    terminal = subprocess.Popen(drawing, env=environment, cwd=home, stdin=its, stdout=its, stderr=its)
    os.close(its)
    try:
        screen.quiet()
        yield screen
    finally:
        subprocess.run([command, "--server", address, "--remote-send", "<Esc>:qa!<CR>"], timeout=30, check=False)
        os.close(ours)
        editor.wait(timeout=30)
        terminal.wait(timeout=30)


def _is_ready(command: str, address: str) -> bool:
    asked = [command, "--server", address, "--remote-expr", "luaeval(\"require('midspan.status').of(0)\")"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False).stdout.strip() == "ready"


def sampled(screen: Screen, samples: int) -> list[float | None]:
    """The milliseconds of each sample."""
    out = []
    for sample in range(samples):
        begin, key = LINES[sample % len(LINES)]
        screen.write(f"Go    {begin}")
        # What comes for this line is waited for and sent away, so that the next key starts from nothing.
        screen.ghost_ms("")
        screen.write("\x1d")
        screen.quiet()
        out.append(screen.ghost_ms(key))
        screen.write("\x1bdd")
        screen.quiet()
    return out


def shares(state: Path, since_ms: float) -> list[float | None]:
    """The server's milliseconds of each automatic request since then."""
    with closing(sqlite3.connect(state / "telemetry.db")) as store:
        asked = "SELECT latency_ms FROM completion WHERE ts >= ? AND trigger = 'automatic' ORDER BY ts"
        return [latency for (latency,) in store.execute(asked, (since_ms,))]


def main(argv: list[str]) -> int:
    """Read the command line, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40)
    samples = parser.parse_args(argv).samples
    command = str(FETCHED) if FETCHED.exists() else shutil.which("nvim")
    if command is None:
        sys.exit("no Neovim: run make nvim, or put Neovim 0.12 or newer on PATH")
    said = subprocess.run([command, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with neovim(command, home) as screen:
            sampled(screen, len(LINES))
            since_ms = time.time() * 1000
            times = sampled(screen, samples)
        server = shares(home / "midspan", since_ms)
    row = {
        "checkpoint": "embedded",
        "device": "auto",
        "editor": said.splitlines()[0],
        "key_to_ghost_ms": quantiles(times),
        "server_ms": quantiles(server),
    }
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
