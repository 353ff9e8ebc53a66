"""What the user may set: `ServeOptions` on the command line, `Settings` through the editor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `midspan serve` was started with; without a log file the log goes to stderr.

    With `debug` the log also says what prompts are made of, in characters and milliseconds.
    """

    checkpoint: str
    device: str
    state_dir: Path
    log_file: Path | None
    debug: bool = False


class SettingsError(Exception):
    """Settings that cannot be used; the message is one line that names the key and the mend."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the editor may set; `exclude` holds patterns of files that no prompt may hold, see excluded.py.

    Nothing is offered unless it is asked for explicitly with `quiet`, and in files that `disable` names, by the same
    patterns. `debounce_ms` is the longest wait for the next key of a burst, see asks.py; 0 for none.
    `languages` turns languages on that the checkpoint was not trained on, or off: `{"go": true, "python": false}`.
    """

    enable: bool = True
    preview: bool = False
    status: bool = False
    telemetry: bool = True
    steps: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 1000
    show_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    debounce_ms: Annotated[int, msgspec.Meta(ge=0, le=5000)] = 150
    quiet: bool = False
    disable: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    languages: dict[str, bool] = {}


def read_settings(options: object, where: str = "initializationOptions", otherwise: str = "using defaults") -> Settings:
    """The settings in what a client sent. Raises SettingsError, which names every key that is not known."""
    given = {} if options is None else options
    known = ", ".join(Settings.__struct_fields__)
    unknown = [str(key) for key in given if key not in Settings.__struct_fields__] if isinstance(given, dict) else []
    if unknown:
        names = ", ".join(repr(key[:40]) for key in unknown[:10])
        raise SettingsError(f"{where}: unknown {names}; {otherwise} (known keys: {known})")
    try:
        return msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{where}: {error}; {otherwise} (known keys: {known})") from error


def section_of(configuration: object) -> object:
    """Our part of what `workspace/didChangeConfiguration` carries; None where it has none.

    Clients send `{"midspan": {...}}`, some of them with every other server's part beside it, or our keys alone.
    """
    if not isinstance(configuration, dict):
        return None
    if "midspan" in configuration:
        return configuration["midspan"]
    return None if configuration.keys().isdisjoint(Settings.__struct_fields__) else configuration


def changed_settings(first: object, section: object) -> Settings:
    """The settings after a change: `section` over the `initializationOptions`. Raises SettingsError."""
    if section is None:
        section = {}
    options = {**first, **section} if isinstance(first, dict) and isinstance(section, dict) else section
    return read_settings(options, "workspace/didChangeConfiguration", "the settings stay as they were")
