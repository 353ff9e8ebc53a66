"""What git would ignore, by the rules of `.gitignore` and `.ignore` files and of `.git/info/exclude`."""

from __future__ import annotations

from pathlib import Path, PurePath

from pathspec import GitIgnoreSpec

RULES = (".gitignore", ".ignore")
MAX_RULES_BYTES = 256 * 1024


def is_rules(path: PurePath) -> bool:
    """Whether a file is one that says what git ignores."""
    return path.name in RULES or path.parts[-3:] == (".git", "info", "exclude")


class Ignored:
    """The rules for the files below one folder, those of the folders above it in its repository included."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[Path, GitIgnoreSpec | None] = {}
        above = [root, *root.parents]
        # Without a repository around it the folder's own rules and those below it count.
        self._top = next((folder for folder in above if (folder / ".git").exists()), root)

    def __call__(self, path: Path, *, folder: bool = False) -> bool:
        """Whether a path below the root is ignored, by itself or with a folder above it; other paths never are."""
        if not path.is_relative_to(self._top):
            return False
        inner = path.relative_to(self._top).parts
        return any(
            self._matches(self._top.joinpath(*inner[:depth]), folder=folder or depth < len(inner))
            for depth in range(1, len(inner) + 1)
        )

    def _matches(self, path: Path, *, folder: bool) -> bool:
        """Whether the rules nearest to a path that say something of it say that it is ignored."""
        for above in path.parents:
            spec = self._spec(above)
            if spec is not None:
                name = path.relative_to(above).as_posix() + ("/" if folder else "")
                if (said := spec.check_file(name).include) is not None:
                    return said
            if above == self._top:
                break
        return False

    def _spec(self, folder: Path) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            sources = [folder / name for name in RULES]
            if folder == self._top:
                sources.insert(0, folder / ".git" / "info" / "exclude")
            lines = [line for source in sources for line in _lines(source)]
            self._specs[folder] = _parsed(lines)
        return self._specs[folder]


def _parsed(lines: list[str]) -> GitIgnoreSpec | None:
    """The rules; a line that is none matches nothing, as in git."""
    try:
        return GitIgnoreSpec.from_lines(lines) if lines else None
    except ValueError:
        return _parsed([line for line in lines if _is_rule(line)])


def _is_rule(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _lines(file: Path) -> list[str]:
    """A rules file's lines; none where there is none that can be read."""
    try:
        if not file.is_file() or file.stat().st_size > MAX_RULES_BYTES:
            return []
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
