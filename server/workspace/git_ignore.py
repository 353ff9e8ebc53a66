"""What git ignores: `.gitignore` files, `.git/info/exclude` and `core.excludesFile`, as `git check-ignore --no-index`
says. `.ignore` files, which search tools read, count beside them.

A path belongs to the nearest repository above it, as it does for git. Outside of repositories the `.gitignore` files
below an open folder count, and elsewhere those of the file's own folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath

from midspan.server.workspace.git_patterns import Rules, parse
from midspan.server.workspace.plain_files import read_plain, stamp

RULES = (".gitignore", ".ignore")
MAX_RULES_BYTES = 256 * 1024
MAX_PATH_BYTES = 4096  # no system opens a longer one
CONFIG_S = 2.0
# git would take these for the repository that is meant, as where an editor was started by a hook.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE")
TRUE = ("true", "yes", "on", "1")

# Rules with the folder that their patterns are seen from, in bytes of its path; the last ones count first.
_Chain = tuple[tuple[int, Rules], ...]


def is_rules(path: PurePath) -> bool:
    """Whether a file is one that says what git ignores."""
    ends = path.parts[-3:], path.parts[-2:]
    return (
        path.name in (*RULES, ".gitconfig")
        or ends[0] == (".git", "info", "exclude")
        or ends[1] in ((".git", "config"), ("git", "ignore"), ("git", "config"))
    )


class Ignored:
    """Answers for any path; what has been read is kept until it is made anew. Errors of paths are "not ignored"."""

    def __init__(self, roots: Iterable[Path | str] = ()) -> None:
        """`roots` are the open folders."""
        self._roots = sorted((os.path.normpath(root) for root in roots), key=len, reverse=True)
        self._tops: dict[str, _Top] = {}
        self._folders: dict[str, _Folder] = {}

    def __call__(self, path: Path | str, *, folder: bool = False) -> bool:
        """Whether a path is ignored, by itself or with a folder above it. A symbolic link is no folder, as for git."""
        path = os.path.normpath(path)
        parent, name = os.path.split(path)
        try:
            data = os.fsencode(path)
        except UnicodeEncodeError:
            return False
        if not os.path.isabs(path) or not name or len(data) > MAX_PATH_BYTES:
            return False
        above = self._folder(parent)
        return above.ignored or above.ignores(data, folder=folder)

    def _folder(self, path: str) -> _Folder:
        """What holds in a folder, from its repository's top down."""
        top = self._top(path)
        missing = []
        while path not in self._folders and path != top.path:
            missing.append(path)
            path = os.path.dirname(path)
        found = self._folders.get(path)
        if found is None:
            found = self._folders[path] = _Folder(ignored=False, git=top.outer, other=()).below(path, top)
        for path in reversed(missing):
            # Nothing counts within a folder that is ignored.
            ignored = found.ignored or found.ignores(os.fsencode(path), folder=not os.path.islink(path))
            inner = _Folder(ignored=ignored, git=found.git, other=found.other)
            found = self._folders[path] = inner if ignored else inner.below(path, top)
        return found

    def _top(self, folder: str) -> _Top:
        """The repository that a folder is in, else the open folder, else the folder itself."""
        seen, at = [], folder
        while at not in self._tops and (repository := _repository(at)) is None and at != os.path.dirname(at):
            seen.append(at)
            at = os.path.dirname(at)
        if at in self._tops:
            found: _Top | None = self._tops[at]
        else:
            found = None if repository is None else _top_of(at, repository)
        if found is None or not found.is_repository:
            root = next((root for root in self._roots if _is_below(folder, root)), folder)
            self._tops[folder] = _Top(root, is_repository=False)
            return self._tops[folder]
        self._tops.update(dict.fromkeys((*seen, at), found))
        return found


@dataclass(frozen=True)
class _Top:
    """Where rules begin to count, and those that hold for all of it."""

    path: str
    is_repository: bool
    outer: _Chain = ()
    fold_case: bool = False


@dataclass(frozen=True)
class _Folder:
    """The rules that hold in a folder: git's, and those of `.ignore` files, either of which ignores."""

    ignored: bool
    git: _Chain = field(default=())
    other: _Chain = field(default=())

    def ignores(self, path: bytes, *, folder: bool) -> bool:
        """Whether the rules nearest to a path that say something of it say that it is ignored."""
        return any(_say(chain, path, folder=folder) for chain in (self.git, self.other) if chain)

    def below(self, path: str, top: _Top) -> _Folder:
        """The same with the rules that stand in the folder itself."""
        size = _base(path)
        read = {name: _rules(os.path.join(path, name), top, follow=False) for name in RULES}
        git, other = ((size, read[name]) for name in RULES)
        return _Folder(
            self.ignored,
            (*self.git, git) if git[1] else self.git,
            (*self.other, other) if other[1] else self.other,
        )


def _say(chain: _Chain, path: bytes, *, folder: bool) -> bool:
    for base, rules in reversed(chain):
        if (said := rules.say(path[base:], folder=folder)) is not None:
            return said
    return False


def _base(folder: str) -> int:
    """Bytes before the paths in a folder."""
    size = len(os.fsencode(folder))
    return size if folder.endswith(os.sep) else size + 1


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _rules(path: str, top: _Top, *, follow: bool) -> Rules:
    """A file's rules; none where there is none that can be read, as git reads none through a link in the work tree."""
    return parse(read_plain(path, MAX_RULES_BYTES, follow=follow) or b"", fold_case=top.fold_case)


def _repository(folder: str) -> str | None:
    """The folder in which git keeps the repository whose work tree this is; None where it is none."""
    inner = os.path.join(folder, ".git")
    if os.path.exists(os.path.join(inner, "HEAD")):
        return inner
    # That of a submodule or of a second work tree stands elsewhere.
    told = read_plain(inner, MAX_PATH_BYTES, follow=True)
    if told is None or not told.startswith(b"gitdir: "):
        return None
    return os.path.normpath(os.path.join(folder, os.fsdecode(told[8:].rstrip(b"\r\n").partition(b"\0")[0])))


def _top_of(folder: str, repository: str) -> _Top:
    """A repository's work tree, with the rules that stand outside of it."""
    told = read_plain(os.path.join(repository, "commondir"), MAX_PATH_BYTES, follow=True)
    common = repository if told is None else os.path.join(repository, os.fsdecode(told.rstrip(b"\r\n")))
    config = _config(folder, repository, common)
    top = _Top(folder, is_repository=True, fold_case=config.fold_case)
    exclude = os.path.join(common, "info", "exclude")
    sources = [_rules(source, top, follow=True) for source in (config.excludes, exclude) if source]
    base = _base(folder)
    return _Top(folder, True, tuple((base, rules) for rules in sources if rules), config.fold_case)


@dataclass(frozen=True)
class _Config:
    """What git's configuration says of its rules."""

    excludes: str
    fold_case: bool = False


def _config(folder: str, repository: str, common: str) -> _Config:
    """The configuration that holds in a repository; git is asked again only where one of its files has changed."""
    home = os.path.expanduser("~")
    user = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    chosen = os.environ.get("GIT_CONFIG_GLOBAL")
    files = [os.path.join(common, "config"), os.path.join(repository, "config.worktree"), "/etc/gitconfig"]
    files += [chosen] if chosen else [os.path.join(home, ".gitconfig"), os.path.join(user, "git", "config")]
    stamps = tuple((file, stamp(file)) for file in files)
    return _asked(folder, os.path.join(user, "git", "ignore"), stamps)


@lru_cache(maxsize=64)
def _asked(folder: str, default: str, _: tuple[tuple[str, tuple[int, int] | None], ...]) -> _Config:
    """git's own answer, which knows of includes and conditions; the defaults where there is no git."""
    git = shutil.which("git")
    if git is None:
        return _Config(default)
    command = [git, "-C", folder, "config", "--null", "--get-regexp", r"^core\.(excludesfile|ignorecase)$"]
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=CONFIG_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return _Config(default)
    said = {}
    for entry in filter(None, done.stdout.split(b"\0")):
        key, separator, value = entry.partition(b"\n")
        said[key] = os.fsdecode(value) if separator else "true"
    excludes = said.get(b"core.excludesfile")
    fold_case = said.get(b"core.ignorecase", "").lower() in TRUE
    if excludes is None:
        return _Config(default, fold_case)
    return _Config(os.path.join(folder, os.path.expanduser(excludes)) if excludes else "", fold_case)
