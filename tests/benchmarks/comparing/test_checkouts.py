"""The gate's sides: a revision is checked out and gets its kernels, folders and checkpoints are taken as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.comparing.checkouts import Model, Side, both, builds
from midspan.server.commands.errors import CommandError

MODEL = Model("embedded", "cpu")
BUILD = "_fast.cpython.so"
# A setup.py that builds by writing a file.
SETUP = (
    f"from pathlib import Path\nPath('kernels/{BUILD}').write_text('built of ' + Path('kernels/cpu/a.h').read_text())\n"
)


def git(root: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with two commits, of which the first has other kernels; the newest ones are built."""
    root = tmp_path / "root"
    for folder in ("src/midspan", "kernels/cpu"):
        (root / folder).mkdir(parents=True)
    git(tmp_path, "init", "--quiet", str(root))
    (root / ".gitignore").write_text("*.so\n")
    (root / "setup.py").write_text(SETUP)
    (root / "src/midspan/__init__.py").write_text("")
    for version in ("old", "new"):
        (root / "kernels/cpu/a.h").write_text(version)
        (root / "kernels/builds.py").write_text("")
        git(root, "add", ".")
        git(root, "commit", "--quiet", "--message", version)
    (root / "kernels" / BUILD).write_text("built here")
    return root


def source(side: Side) -> Path:
    """The checkout that a side's commands run."""
    assert side.serve[:2] == side.fills[:2]
    return Path(side.serve[1].removeprefix("PYTHONPATH=")).parent


def test_revisions_are_checked_out_with_their_kernels_and_are_gone_afterwards(root: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with both(("HEAD~1", "HEAD"), root, scratch, MODEL) as (a, b):
        assert (source(a) / "kernels/cpu/a.h").read_text() == "old"
        assert [path.read_text() for path in builds(source(a))] == ["built of old"]
        assert [path.read_text() for path in builds(source(b))] == ["built here"]
        assert a.words == f"HEAD~1, {git(root, 'rev-parse', 'HEAD~1')[:9]}"
        assert len(git(root, "worktree", "list").splitlines()) == 3
    assert not source(a).exists()
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_a_checkout_without_kernels_takes_revisions_without_them(root: Path, tmp_path: Path) -> None:
    (root / "kernels" / BUILD).unlink()
    with both(("HEAD", str(root)), root, tmp_path / "scratch", MODEL) as (a, b):
        assert builds(source(a)) == builds(source(b)) == []


def test_a_folder_is_a_checkout_or_a_checkpoint_of_this_one(root: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine"
    checkpoint.mkdir()
    with both((str(checkpoint), str(root)), root, tmp_path / "scratch", MODEL) as (a, b):
        assert source(a) == source(b) == root.resolve()
        assert a.serve[-4:] == ("--checkpoint", str(checkpoint.resolve()), "--device", "cpu")
        assert b.serve[-4:] == ("--checkpoint", "embedded", "--device", "cpu")
        assert (a.fills[-2], b.fills[-2]) == (str(checkpoint.resolve()), "embedded")


def test_a_side_runs_its_own_source_wherever_it_is_started(root: Path, tmp_path: Path) -> None:
    (root / "src/midspan/server").mkdir()
    (root / "src/midspan/server/__main__.py").write_text("import sys; print(__file__, sys.argv[1])")
    with both((str(root), str(root)), root, tmp_path / "scratch", MODEL) as (a, _):
        said = subprocess.run(a.serve, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path).stdout
    assert said.split() == [str(root.resolve() / "src/midspan/server/__main__.py"), "serve"]


@pytest.mark.parametrize("text", ["nothing-like-that", "--all", ""])
def test_what_is_no_side_is_said_in_a_line(root: Path, tmp_path: Path, text: str) -> None:
    with (
        pytest.raises(CommandError, match="no git revision, no folder of a checkout, no checkpoint"),
        both((text or "no/such/folder", "HEAD"), root, tmp_path / "scratch", MODEL),
    ):
        pass
    assert len(git(root, "worktree", "list").splitlines()) == 1


def test_kernels_that_do_not_build_are_said_and_so_is_a_side_without_any(root: Path, tmp_path: Path) -> None:
    (root / "setup.py").write_text("raise SystemExit('no compiler here')")
    git(root, "commit", "--quiet", "--all", "--message", "broken")
    (root / "kernels/cpu/a.h").write_text("changed since")
    with (
        pytest.raises(CommandError, match="its kernels do not build: no compiler here; install"),
        both(("HEAD", "HEAD"), root, tmp_path / "scratch", MODEL),
    ):
        pass
    other = tmp_path / "other"
    (other / "src/midspan").mkdir(parents=True)
    with (
        pytest.raises(CommandError, match="other: its kernels are not built"),
        both((str(root), str(other)), root, tmp_path / "scratch2", MODEL),
    ):
        pass


def test_python_is_the_one_that_runs_the_gate(root: Path, tmp_path: Path) -> None:
    with both((str(root), str(root)), root, tmp_path / "scratch", MODEL) as (a, _):
        assert a.serve[2] == a.fills[2] == sys.executable
