"""What the user may set: `ServeOptions` on the command line, `Settings` through the editor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec

from midspan.server.backends.configured import NOTHING, Configured, configured_by
from midspan.server.calibration.own import Calibrations
from midspan.server.router.asks import AUTO, TIERS, Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The command line of `midspan serve`; without a log file the log goes to stderr.

    `debug` logs what prompts are made of, in characters and milliseconds. `refused` is why no checkpoint could be
    chosen: the editor hears it in place of a load. `configured` are the engines of the user's own file, and
    `misconfigured` is why there are none of them. `calibrations` are the user's own thresholds, and `uncalibrated` is
    why there are none of them.
    """

    checkpoint: str
    device: str
    state_dir: Path
    log_file: Path | None
    debug: bool = False
    refused: str | None = None
    configured: Configured = NOTHING
    misconfigured: str | None = None
    calibrations: Calibrations = field(default_factory=dict)
    uncalibrated: str | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the editor may set. `exclude` has patterns of files whose text reaches no prompt, see exclusion.py.

    `quiet`, and `disable` for files by the same patterns, leave only explicit requests. `debounce_ms` is the longest
    wait for the next key of a burst, see requests.py; 0 for none. `steps` lowers the checkpoint's number of denoise
    steps, `show_threshold` replaces its threshold. `languages` turns languages on or off: `{"go": true}`. `engine`
    chooses one that the user has configured, by name. Text goes to none beyond `privacy`, nor beyond the policy's.
    `confirm_rewrites` has the editor ask before a rewrite changes several lines. `schemas` are JSON schemas on disk, by
    patterns of the files that they are for. `telemetry_days` is how long the local log keeps a row.
    """

    enable: bool = True
    preview: bool = False
    status: bool = False
    telemetry: bool = True
    telemetry_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 365
    steps: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    deadline_ms: Annotated[int, msgspec.Meta(ge=1, le=60_000)] = 1000
    show_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    debounce_ms: Annotated[int, msgspec.Meta(ge=0, le=5000)] = 150
    quiet: bool = False
    disable: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    languages: dict[str, bool] = {}
    engine: Annotated[str, msgspec.Meta(min_length=1, max_length=40)] = AUTO
    privacy: Tier = "public"
    confirm_rewrites: bool = False
    schemas: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A client's options, read: the settings, and the usable options by key.

    `problem` is one line that names all others and the fix; None if there are none.
    """

    settings: Settings
    options: Mapping[str, object]
    problem: str | None


DEFAULTS = Settings()
CAUTIOUS: Mapping[str, object] = {"telemetry": False, "privacy": "in_process"}
# vscode-languageclient keeps its own setting `trace` in every server's section.
CLIENTS_OWN = frozenset(("trace",))
TABLES = frozenset(key for key in Settings.__struct_fields__ if isinstance(getattr(DEFAULTS, key), dict))
NAMED = 10  # keys that a message names
# Who edits the workspace can set the editor's settings: only what begins with the editor itself may name an address.
AT_FIRST = ("backends", "policy")
FIRST = "initializationOptions"
ADDRESS = "may stand in your own config.toml or in the initialization options only"
WIDER = "`privacy` may only narrow the {} that it began with; change your own setting and restart the server"


def read_settings(options: object) -> Reading:
    """The settings in the `initializationOptions`; an unusable key has its default."""
    return _read(options, {}, DEFAULTS, FIRST)


def configured_in(options: object) -> Configured:
    """The engines and the policy in the `initializationOptions`. Raises CommandError with one line."""
    table = _table(options)
    if not isinstance(table, dict):
        return NOTHING
    return configured_by({key: table[key] for key in AT_FIRST if key in table}, "editor", FIRST)


def changed_settings(before: Settings, first: Mapping[str, object], section: object, where: str) -> Reading:
    """The settings after a change: `section`, which came by `where`, over the `first` options.

    An unusable key stays as it was `before`, and `privacy` is never wider than at `first`.
    """
    return _read(section, first, before, where)


def section_of(configuration: object) -> object:
    """midspan's section of what `workspace/didChangeConfiguration` carries; None if it has none.

    Clients send `{"midspan": {...}}`, some with every other server's section beside it, or the bare keys. Bare keys are
    midspan's if at least one is known and none holds a table where midspan has none: that is another program's section.
    """
    if not isinstance(configuration, dict):
        return None
    if "midspan" in configuration:
        return configuration["midspan"]
    tables = {key for key, value in configuration.items() if isinstance(value, dict)} - CLIENTS_OWN
    ours = not configuration.keys().isdisjoint(Settings.__struct_fields__) and tables <= TABLES
    return configuration if ours else None


def _read(options: object, first: Mapping[str, object], before: Settings, where: str) -> Reading:
    """The usable options over the first ones; nothing changes if `options` is no table."""
    table = _table(options)
    if not isinstance(table, dict):
        return Reading(settings=before, options=first, problem=_problem(where, [], ["not an object"]))
    usable: dict[str, object] = {}
    unknown, wrong = list[str](), list[str]()
    for key in [key for key in table if key not in CLIENTS_OWN]:
        if key in AT_FIRST:
            wrong += [f"`{key}` {ADDRESS}"] if where != FIRST else []
            continue
        if key not in Settings.__struct_fields__:
            unknown.append(repr(key[:40]))
            continue
        try:
            usable[key] = _value(key, table[key])
        except msgspec.ValidationError as error:
            wrong.append(str(error))
            # A user who sets these to anything odd rather wants the private way.
            usable[key] = CAUTIOUS.get(key, getattr(before, key))
    most = msgspec.structs.replace(DEFAULTS, **first).privacy
    if _is_wider(usable.get("privacy", most), most):
        usable["privacy"] = most
        # Null asks for nothing.
        wrong += [WIDER.format(most)] if table["privacy"] is not None else []
    merged = {**first, **usable}
    return Reading(
        settings=msgspec.structs.replace(DEFAULTS, **merged), options=merged, problem=_problem(where, unknown, wrong)
    )


def _is_wider(tier: object, most: Tier) -> bool:
    return tier in TIERS[TIERS.index(most) + 1 :]


def _table(value: object) -> object:
    """Null and Lua's empty table, which is also its empty list, as an empty object."""
    return {} if value is None or value == [] else value


def _value(key: str, given: object) -> object:
    """A key's value; null is its default. Raises msgspec.ValidationError, which names the key."""
    default = getattr(DEFAULTS, key)
    if given is None:
        return default
    if isinstance(default, dict):
        given = _table(given)
    elif isinstance(default, tuple) and isinstance(given, str):
        # One pattern, not put into a list.
        given = [given]
    return getattr(msgspec.convert({key: given}, Settings), key)


def _problem(where: str, unknown: list[str], wrong: list[str]) -> str | None:
    if not unknown and not wrong:
        return None
    named = [f"unknown {', '.join(unknown[:NAMED])}"] if unknown else []
    known = ", ".join(Settings.__struct_fields__)
    return f"{where}: {'; '.join([*named, *wrong])}; everything else holds (known keys: {known})"
