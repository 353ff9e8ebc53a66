"""What the user may set: `ServeOptions` on the command line, `Settings` through the editor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `midspan serve` was started with; without a log file the log goes to stderr."""

    checkpoint: str
    device: str
    state_dir: Path
    log_file: Path | None


class SettingsError(Exception):
    """Settings that cannot be used; the message is one line that names the key and the mend."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`initializationOptions`, one for one."""

    enable: bool = True
    preview: bool = False
    status: bool = False
    telemetry: bool = True
    steps: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 1000
    show_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


def read_settings(options: object) -> Settings:
    """The settings in a client's `initializationOptions`. Raises SettingsError."""
    try:
        return msgspec.convert({} if options is None else options, Settings)
    except msgspec.ValidationError as error:
        known = ", ".join(Settings.__struct_fields__)
        raise SettingsError(f"initializationOptions: {error}; using defaults (known keys: {known})") from error
