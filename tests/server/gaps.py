"""Gaps in small workspaces: real files, read by the indexer's own code in the test's process."""

from __future__ import annotations

from pathlib import Path

from midspan.engine.api import Hole
from midspan.server.context.context import Used, collect
from midspan.server.context.recent_edits import Edits
from midspan.server.context.sources import Gap
from midspan.server.text.documents import Document, Documents
from midspan.server.text.line_index import Place
from midspan.server.workspace.index import Index
from midspan.server.workspace.indexer import Workspace
from midspan.server.workspace.indexer_client import opened, scan_of
from tests.server.pictures import place

UNHURRIED_S = 60.0


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())


def read_workspace(root: Path, documents: Documents, exclude: tuple[str, ...] = ()) -> Index:
    """The index of a folder and of the open documents."""
    scan = scan_of((root,), exclude, lines=("python",))
    workspace, index = Workspace(), Index(scan.roots)
    for finding in workspace.scan(scan):
        index.take(finding)
    for uri in documents.uris():
        document = documents.get(uri)
        assert document is not None
        for finding in workspace.opened(opened(document)):
            index.take(finding)
    return index


def window(picture: str) -> tuple[str, Place, Hole]:
    """The text, the place and the hole of a picture: lines of `┄` mark the window, `‸` marks the gap."""
    above, inside, below = picture.split("┄\n")
    before, after = inside.split("‸")
    text = above + before + after + below
    return text, place(above + before), Hole(prefix=before, suffix=after)


def used_at(
    root: Path, document: Document, at: Place, hole: Hole, documents: Documents, edits: Edits | None = None
) -> dict[str, Used]:
    """The context of a gap, by source."""
    index = read_workspace(root, documents)
    gap = Gap(
        document=document,
        place=at,
        hole=hole,
        index=index,
        documents=documents,
        edits=edits or Edits(),
        roots=(root,),
    )
    return {used.source: used for used in collect(gap, 20_000, UNHURRIED_S)}
