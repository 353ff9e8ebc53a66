"""The hub's cache on this machine: `models--OWNER--NAME/snapshots/REVISION/` holds links to the files of a revision."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from midspan.server.models.walk import Note, files_below

PREFIX = "models--"
MOST_REVISION = 100


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository's GGUF file, or without `file` a whole checkpoint folder; `path` is where it lies in the cache."""

    repository: str
    file: str | None
    path: Path


def hub_models(folder: Path, note: Note) -> Iterator[HubModel]:
    """What the cache has, the revision that a name stands for first; files of older ones only where they are gone."""
    for owner in _repositories(folder, note):
        repository = owner.name.removeprefix(PREFIX).replace("--", "/", 1)
        seen = set[str | None]()
        for snapshot in _snapshots(owner, note):
            for file in _files(snapshot, note):
                if file not in seen:
                    seen.add(file)
                    yield HubModel(repository, file, snapshot / file if file else snapshot)


def repository_folder(folder: Path, repository: str) -> Path:
    """Where a repository lies in the cache."""
    return folder / (PREFIX + repository.replace("/", "--"))


def _repositories(folder: Path, note: Note) -> list[Path]:
    if not os.path.lexists(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(PREFIX) and "--" in path.name[8:])
    except OSError as error:
        note(f"{folder}: {error.strerror}; not looked into")
        return []


def _snapshots(repository: Path, note: Note) -> list[Path]:
    """The folders of revisions, that of `main` first."""
    folder = repository / "snapshots"
    try:
        found = sorted(path for path in folder.iterdir() if os.path.isdir(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        note(f"{folder}: {error.strerror}; not looked into")
        return []
    main = _main(repository)
    return sorted(found, key=lambda path: path.name != main)


def _main(repository: Path) -> str | None:
    try:
        with (repository / "refs" / "main").open("rb") as opened:
            return opened.read(MOST_REVISION).decode("ascii", "replace").strip()
    except OSError:
        # A revision that was fetched by its number has no name here.
        return None


def _files(snapshot: Path, note: Note) -> Iterator[str | None]:
    """The GGUF files of a revision, by their names in it; None for a checkpoint folder."""
    files = list(files_below(snapshot, note))
    names = [file.relative_to(snapshot).as_posix() for file in files if file.suffix == ".gguf"]
    # Beside GGUF files the configuration is that of the network that they were made of.
    if snapshot / "config.json" in files and (not names or any(file.suffix == ".safetensors" for file in files)):
        yield None
    yield from names


def remove(folder: Path, model: HubModel) -> int:
    """Remove a model's files from the cache, and what was begun of them; returns the bytes that this frees."""
    repository = repository_folder(folder, model.repository)
    files = [model.path] if model.file else [path for path in model.path.rglob("*") if not os.path.isdir(path)]
    blobs = {blob for path in files if (blob := _blob(repository, path)) is not None}
    links = [
        path for path in (repository / "snapshots").rglob("*") if path in files or _blob(repository, path) in blobs
    ]
    begun = list((repository / "blobs").glob("*.incomplete"))
    freed = sum(os.path.getsize(path) for path in {*blobs, *begun} or files if os.path.exists(path))
    for path in [*links, *blobs, *begun]:
        path.unlink(missing_ok=True)
    if not any(path.is_file() for path in repository.rglob("*") if path.parent.name != "refs"):
        shutil.rmtree(repository)
    return freed


def _blob(repository: Path, link: Path) -> Path | None:
    """The file beside others of its repository that a link in a snapshot leads to; None for what is no such link."""
    if not link.is_symlink():
        return None
    target = Path(os.path.normpath(link.parent / os.readlink(link)))
    return target if target.parent == repository / "blobs" else None
