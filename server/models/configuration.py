"""midspan's configuration file: which checkpoint is taken where `--checkpoint` names none, and what was calibrated.

~/.config/midspan/config.json: {"checkpoint": "/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"}
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec

from midspan.server.calibration.own import Calibration, Calibrations
from midspan.server.commands.errors import CommandError
from midspan.server.models.catalogue import EMBEDDED

NAME = "config.json"
MOST_BYTES = 1 << 16


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the file may hold."""

    # An empty path would be the working folder, which an editor may have set to anybody's project.
    checkpoint: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    # What `midspan calibrate --apply` has written, by the checkpoint's digest.
    calibrations: dict[str, Calibration] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """The checkpoint that is taken, and what named it, in words."""

    checkpoint: str
    by: str

    @property
    def is_gone(self) -> bool:
        """Whether it is a path at which nothing is any more."""
        return os.path.isabs(self.checkpoint) and not os.path.exists(self.checkpoint)


def configuration_file(environment: Mapping[str, str]) -> Path:
    """Its place: XDG's folder where that is set, else the platform's own."""
    if environment.get("XDG_CONFIG_HOME"):
        return Path(environment["XDG_CONFIG_HOME"]) / "midspan" / NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "midspan" / NAME
    if sys.platform == "win32":
        return Path(environment.get("APPDATA", str(Path.home()))) / "midspan" / NAME
    return Path.home() / ".config" / "midspan" / NAME


def choose(named: str | None, file: Path) -> Choice:
    """What `--checkpoint` names, else the file, else the embedded model. Raises CommandError for a bad file."""
    if named is not None:
        return Choice(named, "--checkpoint")
    chosen = read_configuration(file).checkpoint
    return Choice(EMBEDDED, "the default") if chosen is None else Choice(chosen, str(file))


def choose_there(named: str | None, file: Path) -> Choice:
    """The same. Raises CommandError where the file names what is gone, too: the user may not know that it does."""
    choice = choose(named, file)
    if named is None and choice.is_gone:
        fix = f"run midspan models use {EMBEDDED}, or another of midspan models"
        raise CommandError(f"{file}: its checkpoint {choice.checkpoint} is gone; {fix}")
    return choice


def calibrated_there(file: Path) -> tuple[Calibrations, str | None]:
    """What was calibrated, and why nothing that was can be read, in one line with the fix."""
    try:
        return read_configuration(file).calibrations, None
    except CommandError as error:
        return {}, str(error)


def read_configuration(file: Path) -> Configuration:
    """The file's contents, of which there may be none. Raises CommandError, one line with the fix."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES)
    except FileNotFoundError:
        return Configuration()
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; make it readable or remove it") from error
    try:
        return msgspec.json.decode(data, type=Configuration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem = " ".join(str(error).split())[:120]
        fix = f'correct it (its keys are "checkpoint" and "calibrations") or run midspan models use {EMBEDDED}'
        raise CommandError(f"{file}: {problem}; {fix}") from error


def write_configuration(file: Path, configuration: Configuration) -> None:
    """Write the file, whole or not at all. Raises CommandError."""
    try:
        # What may be a link, as into a folder of such files, stays one.
        file = file.resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=file.parent) as folder:
            new = Path(folder) / NAME
            new.write_bytes(msgspec.json.format(msgspec.json.encode(configuration)) + b"\n")
            os.replace(new, file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; make its folder writable") from error
