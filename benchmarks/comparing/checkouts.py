"""The two sides: a git revision, the folder of a checkout, or a checkpoint for this checkout.

A revision is checked out into a scratch folder, which is gone afterwards. The CPU's kernels are no part of it: they are
copied from this checkout where their sources are the same, else built there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from midspan.server.commands.errors import CommandError

FILLS = Path(__file__).with_name("fills.py")
PACKAGE = Path("src/midspan")
KERNELS = Path("kernels")
NATIVE_SOURCES = ("kernels/cpu", "kernels/builds.py", "setup.py")


class Side(NamedTuple):
    """How a side is run: its server's command line without the state folder, and that of `fills.py`."""

    words: str
    serve: tuple[str, ...]
    fills: tuple[str, ...]


class Model(NamedTuple):
    """What both sides load unless one of them is a checkpoint itself, and where it runs."""

    checkpoint: str
    device: str


@contextmanager
def both(named: tuple[str, str], root: Path, scratch: Path, model: Model) -> Iterator[tuple[Side, Side]]:
    """Sides A and B, as long as they are needed; `root` is this checkout. Raises CommandError."""
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(_side(text, root, scratch / name, model))
            for text, name in zip(named, ("a", "b"), strict=True)
        )
        if bool(builds(a[0])) != bool(builds(b[0])):
            bare = named[0] if builds(b[0]) else named[1]
            raise CommandError(f"{bare}: its kernels are not built, which would be all that is measured; build them")
        yield a[1], b[1]


@contextmanager
def _side(text: str, root: Path, scratch: Path, model: Model) -> Iterator[tuple[Path, Side]]:
    """The checkout and the side that an argument names."""
    path = Path(text).expanduser()
    if (path / PACKAGE).is_dir():
        checkout = path.resolve()
        yield checkout, _run_in(checkout, text, model)
    elif path.exists() or text == "embedded":
        checkpoint = text if text == "embedded" else str(path.resolve())
        yield root, _run_in(root, f"checkpoint {text}", Model(checkpoint, model.device))
    else:
        commit = commit_of(text, root)
        with worktree(commit, root, scratch):
            supply_kernels(scratch, commit, root)
            yield scratch, _run_in(scratch, text if commit.startswith(text) else f"{text}, {commit[:9]}", model)


def _run_in(checkout: Path, words: str, model: Model) -> Side:
    """The commands of a checkout; `env` puts its own source before any that is installed."""
    python = ("env", f"PYTHONPATH={checkout / 'src'}", sys.executable, "-P")
    chosen = ("--checkpoint", model.checkpoint, "--device", model.device)
    return Side(
        words=words,
        serve=(*python, "-m", "midspan.server", "serve", "--log-file", os.devnull, *chosen),
        fills=(*python, str(FILLS), model.checkpoint, model.device),
    )


def commit_of(text: str, root: Path) -> str:
    """The commit that a revision names. Raises CommandError for what is none."""
    done = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
    if done.returncode:
        raise CommandError(f"{text}: no git revision, no folder of a checkout, no checkpoint; give one of these")
    return done.stdout.strip()


@contextmanager
def worktree(commit: str, root: Path, place: Path) -> Iterator[None]:
    """A commit's files in a folder that is not there yet, until the end. Raises CommandError."""
    made = _git(root, "worktree", "add", "--quiet", "--detach", str(place), commit)
    if made.returncode:
        raise CommandError(f"{commit}: git cannot check it out: {made.stderr.strip().splitlines()[-1]}")
    try:
        yield
    finally:
        _git(root, "worktree", "remove", "--force", str(place))


def supply_kernels(checkout: Path, commit: str, root: Path) -> None:
    """Give a fresh checkout its kernels, if this one has any. Raises CommandError if they do not build."""
    if not (here := builds(root)):
        return
    if not _git(root, "diff", "--quiet", commit, "--", *NATIVE_SOURCES).returncode:
        for build in here:
            shutil.copy2(build, checkout / KERNELS)
        return
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode or not builds(checkout):
        why = (done.stderr.strip().splitlines() or ["nothing was built"])[-1]
        raise CommandError(f"{commit}: its kernels do not build: {why}; install a C++ compiler and setuptools")


def builds(checkout: Path) -> list[Path]:
    """The kernels that are built there."""
    return sorted((checkout / KERNELS).glob("_*.so"))


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
