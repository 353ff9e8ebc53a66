"""`midspan replay FILES`: types lines of any files, and says what midspan saved and what it disturbed."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from midspan.server.bench.replay import File, read_files
from midspan.server.client.typist import server_command
from midspan.server.commands.errors import CommandError
from midspan.server.replay.figures import Figures, as_lines, figures
from midspan.server.replay.person import Person, replay
from midspan.server.replay.styles import STYLES

CORPUS = ".jsonl"


def read(paths: Sequence[Path]) -> list[File]:
    """What is typed, with LF line ends; a source file is a package of its own. Raises CommandError."""
    files = []
    for number, path in enumerate(paths):
        if path.suffix == CORPUS:
            files += read_files(path)
            continue
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}; give source files that can be read") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"{path}: not UTF-8 at byte {error.start}; convert it first") from error
        files.append(File(str(number), path.name, text.replace("\r\n", "\n").replace("\r", "\n")))
    if not any(file.text.strip() for file in files):
        raise CommandError(f"{paths[0]}: holds no line to type; give another")
    return files


def run(files: Sequence[File], lines: int, person: Person, serve: Sequence[str]) -> Figures:
    """Type, with a state folder for the server that is gone afterwards. Raises CommandError."""
    with tempfile.TemporaryDirectory(prefix="midspan-replay-") as folder:
        return figures(asyncio.run(replay(files, lines, person, [*serve, "--state-dir", folder], {})))


def replay_command(arguments: argparse.Namespace) -> int:
    """Type and print."""
    person = Person(style=STYLES[arguments.style], seed=arguments.seed)
    serve = server_command(arguments.checkpoint, arguments.device, arguments.log_file)
    found = run(read(arguments.files), arguments.lines, person, serve)
    named = {"style": arguments.style, "checkpoint": arguments.checkpoint, "device": arguments.device}
    print(json.dumps(dataclasses.asdict(found) | named) if arguments.json else "\n".join(as_lines(found)))
    return 0
