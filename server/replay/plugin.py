"""A plugin for pytest: the fixture `midspan_replay`, for the authors of clients and models.

pytest finds it where midspan is installed. Nothing else of midspan is imported until a test types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from midspan.server.replay.figures import Figures
    from midspan.server.replay.person import Person


@pytest.fixture(scope="session")
def midspan_replay() -> Callable[..., Figures]:
    """Call it as `replay_files`: a person types lines of your files through a real server; you get their Figures."""
    return replay_files


def replay_files(
    files: Sequence[Path],
    *,
    person: Person | None = None,
    lines: int = 20,
    checkpoint: str = "embedded",
    serve: Sequence[str] | None = None,
) -> Figures:
    """Retype so many lines of the files, drawn by the person's seed; VS Code's style if no person is given.

    `serve` is the command line of another server, to which `--state-dir FOLDER` is added. Raises CommandError for what
    cannot be read or loaded.
    """
    from midspan.server.client.typist import server_command
    from midspan.server.replay.command import read, run
    from midspan.server.replay.person import Person
    from midspan.server.replay.styles import STYLES

    who = Person(style=STYLES["vscode"]) if person is None else person
    return run(read(files), lines, who, serve or server_command(checkpoint, "auto", None))
