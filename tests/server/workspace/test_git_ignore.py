"""The files that git ignores, compared with git itself: in examples, and on generated trees.

`--hypothesis-profile=git` tries 2,000 random trees.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.workspace.git_ignore import MAX_PATH_BYTES, Ignored, is_rules
from midspan.server.workspace.git_patterns import parse
from tests.server.gaps import write_files

FILES = (
    "a.py", "a.log", "keep.log", "build/x.py", "src/build/x.py", "src/a.log", "src/gen/a.py", "src/gen/keep.py",
    "docs/a/b/c.py", "secret.txt", "deep/secret.txt", "src/only_here.py", "only_here.py", "#hash", "sp ace.py",
    "!bang", "out/a.py", "nested/inner/x.tmp", "nested/x.tmp", "with_excluded/a.py", "mine/a.py", "mine.py",
)  # fmt: skip
RULES = {
    ".gitignore": "*.log\n!keep.log\n/build/\n# a comment\ndocs/**/c.py\nsecret.txt\n\\#hash\n\\!bang\nout\n!\n"
    "sp ace.py \n!mine.py\n",
    "src/.gitignore": "gen/*\n!gen/keep.py\n/only_here.py\n!a.log\n",
    "nested/.gitignore": "inner\n",
    ".git/info/exclude": "with_excluded/\n",
}
BOM = "\ufeff"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder for git and for our code, without configuration at first."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def hidden_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide this machine's own configuration of git."""
    for name in ("XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(*arguments: str | Path) -> None:
    subprocess.run(["git", *map(str, arguments)], check=True, capture_output=True)


def make(root: Path, rules: dict[str, str]) -> Path:
    git("init", "-q", root)
    write_files(root, rules)
    return root


def ignored_by_git(root: Path, names: list[bytes]) -> set[bytes]:
    """The names that git ignores in a work tree."""
    done = subprocess.run(
        ["git", "-C", str(root), "check-ignore", "--no-index", "-z", "--stdin"],
        input=b"\0".join(names),
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return set(filter(None, done.stdout.split(b"\0")))


def ignored_by_us(root: Path, names: list[bytes]) -> set[bytes]:
    ignored = Ignored()
    paths = {name: Path(os.fsdecode(os.path.join(os.fsencode(root), name))) for name in names}
    return {name for name, path in paths.items() if ignored(path, folder=path.is_dir() and not path.is_symlink())}


def check_same(root: Path, names: list[bytes] | None = None) -> set[bytes]:
    """Check that git and our code ignore the same names (by default all files), and return them."""
    names = names or [os.fsencode(path.relative_to(root)) for path in root.rglob("*") if ".git" not in path.parts]
    ours, theirs = ignored_by_us(root, names), ignored_by_git(root, names)
    assert ours == theirs
    return ours


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("repository"), {**dict.fromkeys(FILES, ""), **RULES})


@pytest.mark.parametrize("name", FILES)
def test_example_files_have_the_same_answer_as_git(repository: Path, name: str) -> None:
    check_same(repository, [name.encode()])


NAMES = [
    b"a", b"b", b"foo", b"foobar", b"bar", b"ab", b"a.py", b"x.log", b"build", b"A", b"a b", b"a ", b"#a", b"!a",
    b"a\\b", b"a*b", b"[a]", b"a[", b"caf\xc3\xa9", b"caf\xe9", b"a\nb", b"-", b"a-b", b"]", b".x", b"0", b"a]", b"^",
]  # fmt: skip
PIECES = [
    b"*", b"**", b"***", b"?", b"/", b"/", b"/**", b"**/", b"/**/", b"\\", b"\\/", b"[ab]", b"[!a]", b"[^a]", b"[a-c]",
    b"[]a]", b"[]-a]", b"[a-", b"[[:alpha:]]", b"[[:digit:]x]", b"[[:nope:]]", b"[[:a]", b"[\\a]", b"[a\\]b]", b"[a/b]",
    b"[--0]", b"[", b"]", b"!", b"#", b" ", b"\\ ", b"\t", b".", b"-", b"foo", b"bar", b"a", b"b", b"a", b"o", b"*.py",
    b"*.log", b"build", b"caf\xc3\xa9", b"caf", b"\xc3", b"[\xc3]", b"\r", b"\0", b"^", b"0",
]  # fmt: skip
FREE = st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from(NAMES)), max_size=6).map(b"".join)
FOLDERS = st.lists(st.lists(st.sampled_from(NAMES), max_size=3).map(tuple), max_size=5)
Tree = tuple[list[tuple[bytes, ...]], list[bytes], list[bytes | None]]


@st.composite
def similar_patterns(draw: st.DrawFn, names: list[bytes]) -> bytes:
    """A pattern that resembles one of the names: parts of it are replaced by wildcards."""
    name = draw(st.sampled_from(names))
    parts = name.split(b"/")
    out = []
    for part in parts[draw(st.integers(0, len(parts) - 1)) :]:
        begin, end = sorted((draw(st.integers(0, len(part))), draw(st.integers(0, len(part)))))
        middle = draw(st.sampled_from([part[begin:end], part[begin:end], b"*", b"**", b"?", *PIECES]))
        out.append(draw(st.sampled_from([part, part[:begin] + middle + part[end:], b"*", b"**"])))
    opening = draw(st.sampled_from([b"", b"", b"!", b"/", b"!/", b"**/", b"\\"]))
    return opening + b"/".join(out) + draw(st.sampled_from([b"", b"", b"/", b"/*", b"/**", b" ", b"\\ ", b"\r"]))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Folders, the files in each, and the bytes of files with rules: the user's, the repository's, and nested ones."""
    folders, files = draw(FOLDERS), draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6))
    names = names_in(folders, files)
    pattern = st.one_of(similar_patterns(names), similar_patterns(names), st.sampled_from(NAMES), FREE)
    lines = st.tuples(
        st.sampled_from([b"", b"", BOM.encode()]),
        st.lists(pattern, min_size=1, max_size=6),
        st.sampled_from([b"", b"\n"]),
    ).map(lambda parts: parts[0] + b"\n".join(parts[1]) + parts[2])
    sources = draw(st.lists(st.one_of(lines, lines, lines, st.none()), min_size=2, max_size=6))
    return folders, files, sources


def names_in(folders: list[tuple[bytes, ...]], files: list[bytes]) -> list[bytes]:
    names = {b"/".join([*folder, name]) for folder in [(), *folders] for name in files}
    return sorted(names | {b"/".join(folder[:depth]) for folder in folders for depth in range(1, len(folder) + 1)})


def make_tree(root: Path, home: Path, tree: Tree) -> list[bytes]:
    """Make a tree on disk, and return the names in it."""
    folders, files, sources = tree
    top = os.fsencode(root)
    for folder in (*(os.path.join(b".git", name) for name in (b"objects", b"refs", b"info")), *map(b"/".join, folders)):
        os.makedirs(os.path.join(top, folder), exist_ok=True)
    (home / ".config" / "git").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "git" / "ignore").write_bytes(b"")
    places = [os.fsencode(home / ".config" / "git" / "ignore"), b".git/info/exclude"]
    places += [b"/".join([*folder, b".gitignore"]) for folder in [(), *folders]]
    for name, data in [(b".git/HEAD", b"ref: refs/heads/main\n"), *zip(places, sources, strict=False)]:
        if data is not None:
            Path(os.fsdecode(os.path.join(top, name))).write_bytes(data)
    return names_in(folders, files)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (b"/foo**/bar", [b"foobar", b"foo/bar", b"foo/a/b/bar", b"fooa/bar", b"a/foo/bar"]),
        (b"a?o**/bar", [b"foo/bar", b"a1o/x/bar", b"a1ox/bar"]),
        (b"caf?", [b"caf\xc3\xa9", b"caf\xe9", b"cafe"]),
        (b"caf??", [b"caf\xc3\xa9", b"caf\xe9", b"cafe"]),
        (b"a/**/b", [b"a/b", b"a/x/b", b"a/x/y/b", b"ab"]),
        (b"a/**\\/b", [b"a/b", b"a/x/b"]),
        (b"**", [b"a", b"a/b"]),
        (b"a/**", [b"a", b"a/b", b"a/b/c"]),
        (b"a[/]b", [b"a/b", b"a[/]b"]),
        (b"a/[!x]b", [b"a/b", b"a/yb", b"a/xb"]),
        (b"x[]a]y", [b"x]y", b"xay", b"xby"]),
        (b"x[a-\\]]y", [b"x]y", b"xay", b"x-y", b"xby"]),
        (b"x[[:digit:]-z]y", [b"x1y", b"x-y", b"xzy", b"xay"]),
        (b"x[[:nope:]]y", [b"xny", b"x[y"]),
        (b"x[[:]y", [b"x[y", b"x:y"]),
        (b"trailing\\ ", [b"trailing ", b"trailing"]),
        (b"trailing\\  ", [b"trailing ", b"trailing", b"trailing  "]),
        (b"two\\\\ ", [b"two\\", b"two\\ "]),
        (b"end\\", [b"end", b"end\\"]),
        (b"folder\\/", [b"folder", b"folder\\"]),
        (b"tab\t", [b"tab", b"tab\t"]),
        (b"cr\r", [b"cr", b"cr\r"]),
        (b"x[^a]y", [b"xay", b"xby", b"x^y"]),
        (b"k*\n!keep", [b"keep", b"kept"]),
        (b"!k*\nkeep", [b"keep", b"kept"]),
        (b"keep\n!k*", [b"keep", b"kept"]),
        (b"keep\n!keep/", [b"keep", b"keep/a"]),
        (b"*a*b*c", [b"abcabd", b"xaybzc", b"abc", b"acb"]),
    ],
)
def test_a_pattern_matches_the_same_names_as_in_git(tmp_path: Path, pattern: bytes, names: list[bytes]) -> None:
    root = make(tmp_path, {})
    (root / ".gitignore").write_bytes(pattern)
    check_same(root, names)


@given(trees())
def test_generated_trees_have_the_same_answer_as_git(
    tmp_path_factory: pytest.TempPathFactory, home: Path, tree: Tree
) -> None:
    root = tmp_path_factory.mktemp("tree")
    check_same(root, make_tree(root, home, tree))


def test_the_users_own_rules(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, chosen, here = home / ".config/git/ignore", home / "chosen", tmp_path / "elsewhere"
    root = make(tmp_path / "root", dict.fromkeys(("usual", "chosen", "moved", "here", "relative"), ""))
    write_files(home, {".config/git/ignore": "usual\n", "chosen": "chosen\n"})
    write_files(tmp_path, {"xdg/git/ignore": "moved\n", "elsewhere": "here\n", "root/rules": "relative\n"})
    assert check_same(root) == {b"usual"}
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert check_same(root) == {b"moved"}
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/chosen\n")
    assert check_same(root) == {b"chosen"}
    git("-C", root, "config", "core.excludesFile", here)
    assert check_same(root) == {b"here"}
    git("-C", root, "config", "core.excludesFile", "rules")
    assert check_same(root) == {b"relative"}
    (root / ".git/info/exclude").write_text("!relative\n")
    assert check_same(root) == set()
    (home / "included").write_text(f"[core]\n\texcludesFile = {chosen}\n")
    git("-C", root, "config", "--unset", "core.excludesFile")
    (home / ".gitconfig").write_text(f'[includeIf "gitdir:{root}/"]\n\tpath = {home / "included"}\n')
    assert check_same(root) == {b"chosen"}
    (home / ".gitconfig").write_text('[core]\n\texcludesFile = ""\n')
    assert check_same(root) == set()
    (home / ".gitconfig").unlink()
    usual.unlink()


def test_a_file_of_rules_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert check_same(make(tmp_path, {".gitignore": BOM + "first\nsecond\n", "first": "", "second": ""})) == {
        b"first",
        b"second",
    }


def test_case_matters_unless_core_ignorecase_is_set(tmp_path: Path) -> None:
    root = make(tmp_path, {".gitignore": "Name\n*.LOG\n", "name": "", "a.log": ""})
    assert check_same(root) == set()
    git("-C", root, "config", "core.ignoreCase", "true")
    assert check_same(root) == {b"name", b"a.log"}


def test_a_second_work_tree_and_a_submodule_have_the_same_rules_as_in_git(tmp_path: Path) -> None:
    one = make(tmp_path / "one", {"a.py": "", ".gitignore": "*.tmp\n"})
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "protocol.file.allow=always")
    git("-C", one, "add", "-A")
    git("-C", one, *identity, "commit", "-q", "-m", "first")
    (one / ".git/info/exclude").write_text("x.log\n")
    git("-C", one, "worktree", "add", "-q", "-b", "second", tmp_path / "two")
    git("-C", one, *identity, "submodule", "--quiet", "add", one, "inner")
    (one / ".git/modules/inner/info/exclude").write_text("only_inner\n")
    for root in (tmp_path / "two", one, one / "inner"):
        write_files(root, {"x.log": "", "a.tmp": "", "only_inner": ""})
    assert check_same(tmp_path / "two") == {b"x.log", b"a.tmp"}
    assert check_same(one / "inner") == {b"a.tmp", b"only_inner"}
    assert check_same(one, [b"x.log", b"a.tmp", b"only_inner"]) == {b"x.log", b"a.tmp"}


def test_rules_behind_a_link_do_not_apply_as_in_git(tmp_path: Path) -> None:
    root = make(tmp_path / "root", {"a": "", "sub/b": ""})
    (tmp_path / "rules").write_text("*\n")
    (root / ".gitignore").symlink_to(tmp_path / "rules")
    (root / "link").symlink_to(root / "sub")
    (root / ".git/info/exclude").write_text("link/\n")
    assert check_same(root, [b"a", b"sub", b"sub/b", b"link"]) == set()


def test_files_that_hold_rules() -> None:
    names = (
        "a/.gitignore", ".ignore", "a/.git/info/exclude", ".git/config", ".gitconfig", ".config/git/ignore",
        "exclude", ".git/info/attributes", "x.gitignore", "config",
    )  # fmt: skip
    assert [name for name in names if is_rules(Path("/project", name))] == list(names[:6])


def test_rules_above_a_workspace_that_is_part_of_a_repository(repository: Path) -> None:
    ignored = Ignored([repository / "src"])
    assert ignored(repository / "src" / "b.log")
    assert not ignored(repository / "src" / "a.py")


def test_a_folder_without_a_repository_has_its_own_rules(tmp_path: Path) -> None:
    write_files(tmp_path, {"work/.gitignore": "*.tmp\n", "work/.ignore": "notes\n", ".gitignore": "*.py\n"})
    ignored = Ignored([tmp_path / "work"])
    assert ignored(tmp_path / "work" / "a.tmp")
    assert ignored(tmp_path / "work" / "deep" / "a.tmp")
    assert ignored(tmp_path / "work" / "notes" / "a.py")
    assert not ignored(tmp_path / "work" / "a.py")
    assert not ignored(tmp_path / "elsewhere.tmp")


def test_other_rules_cannot_include_a_file_that_git_ignores(tmp_path: Path) -> None:
    write_files(make(tmp_path, {".gitignore": "*.tmp\n"}), {".ignore": "!a.tmp\nnotes\n"})
    ignored = Ignored()
    assert [ignored(tmp_path / name) for name in ("a.tmp", "notes", "a.py")] == [True, True, False]


@pytest.mark.parametrize(
    "name", ["n" * 300 + "/x.py", "d/" * 3000 + "x.py", "a\0b.py", "\ud83d/a.py", "fifo/x.py", "loop/x.py", "a\nb.py"]
)
def test_an_odd_path_is_not_ignored(tmp_path: Path, name: str) -> None:
    make(tmp_path, {".gitignore": "*.log\n"})
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / ".ignore")
    (tmp_path / "loop").symlink_to("loop")
    assert not Ignored()(f"{tmp_path}/{name}")
    if len(name) < MAX_PATH_BYTES and name.isascii():
        assert Ignored()(f"{tmp_path}/{name}.log")


def test_no_pattern_takes_exponential_time() -> None:
    # A matcher that backtracks exponentially would not return within this test's time limit.
    name = b"a" * 250 + b"/" + b"a/" * 1000 + b"b"
    data = b"*a*a*a*a*a*a*a*a*a*a*c\n" + b"**/a*a*a*a*a*a*/**/a*a*a*a*/**/a/**/c\n" + b"/" + b"**/a/" * 40 + b"c\n"
    assert parse(data).say(name, folder=False) is None
    assert parse(data).say(b"a" * 250, folder=False) is None
