"""The engines that a user names: in config.toml beside config.json, or in the editor's initialization options.

~/.config/midspan/config.toml:

    [[backends]]
    name = "qwen"
    kind = "llama-server"
    address = "http://127.0.0.1:9931"

A workspace may choose one of them by the setting `engine`; it can name no address. midspan itself never writes here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from midspan.server.backends.schema import KEYRING, KEYS, TAKEN, Backend
from midspan.server.commands.errors import CommandError
from midspan.server.models.configuration import configuration_file
from midspan.server.router.policy import DEFAULT, Policy, Source, policy_of

NAME = "config.toml"
MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """The engines, each with who named it, and the policy; none and the default without a configuration."""

    backends: tuple[tuple[Backend, Source], ...] = ()
    policy: Policy = DEFAULT

    def named(self, name: str) -> Backend | None:
        """The engine of a name."""
        return next((one for one, _ in self.backends if one.name == name), None)


NOTHING = Configured()


def configured_file(environment: Mapping[str, str]) -> Path:
    """Its place."""
    return configuration_file(environment).with_name(NAME)


def read_configured(file: Path) -> Configured:
    """What the file says. Raises CommandError, one line with the fix."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES)
    except FileNotFoundError:
        return NOTHING
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}; make it readable or remove it") from error
    try:
        given = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: no TOML: {' '.join(str(error).split())[:120]}; correct it there") from error
    return configured_by(given, "configuration", str(file))


def configured_by(given: Mapping[str, object], by: Source, where: str) -> Configured:
    """The engines and the policy in a table. Raises CommandError, one line that names `where` and the fix."""
    unknown = [key for key in given if key not in ("backends", "policy")]
    if unknown:
        raise CommandError(f"{where}: unknown {unknown[0][:40]!r}; known are `backends` and `policy`{_hint(unknown)}")
    backends = given.get("backends", ())
    if not isinstance(backends, list | tuple):
        raise CommandError(f"{where}: `backends` is no list; write [[backends]] above each engine's keys")
    found = [_backend(one, f"{where}: backends[{number}]") for number, one in enumerate(backends)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise CommandError(f"{where}: two engines are named {name}; give each its own name")
    return Configured(backends=tuple((one, by) for one in found), policy=_policy(given.get("policy", {}), where))


def both(file: Configured, editor: Configured) -> Configured:
    """The file's engines and the editor's; of one name, the file's. The editor's policy replaces a default one."""
    names = {one.name for one, _ in file.backends}
    more = tuple((one, by) for one, by in editor.backends if one.name not in names)
    policy = file.policy if file.policy != DEFAULT else editor.policy
    return Configured(backends=(*file.backends, *more), policy=policy)


def as_it_is(configured: Configured) -> Configured:
    """The same, with no other reading of the local checkpoint than its own."""
    return replace(configured, policy=msgspec.structs.replace(configured.policy, both_readings=DEFAULT.both_readings))


def _backend(given: object, where: str) -> Backend:
    if isinstance(given, dict):
        for key, value in given.items():
            in_keyring = key == "key" and isinstance(value, str) and value.startswith(KEYRING)
            # Its value is a key: it is shown nowhere.
            if str(key).lower().replace("-", "_") in KEYS and not in_keyring:
                fix = (
                    "put the key into an environment variable and name that one with key_variable, or into the keyring"
                )
                raise CommandError(f"{where}: `{key}`: no file holds a key; {fix}")
    try:
        found = msgspec.convert(given, Backend)
    except msgspec.ValidationError as error:
        known = ", ".join(Backend.__struct_fields__)
        raise CommandError(f"{where}: {_words(error)}; correct it (known keys: {known})") from error
    if found.name in TAKEN:
        raise CommandError(f"{where}: {found.name} is midspan's own name; give another")
    # Only now, as an engine is configured, is anything of theirs imported.
    from midspan.server.backends.remotes import remote_of

    try:
        remote_of(found)
    except ValueError as error:
        raise CommandError(f"{where} ({found.name}): {error}") from error
    return found


def _policy(given: object, where: str) -> Policy:
    if not isinstance(given, dict):
        raise CommandError(f"{where}: `policy` is no table; write [policy] above its keys")
    try:
        return policy_of(given)
    except msgspec.ValidationError as error:
        raise CommandError(f"{where}: policy: {_words(error)}; docs/router.md has every key") from error


def _words(error: msgspec.ValidationError) -> str:
    """What msgspec says, shortened; of a variable's name it says nothing, as that may be a key."""
    said = " ".join(str(error).split())[:200]
    if "$.key`" in said:
        return 'key names no service of the keyring; write key = "keyring:SERVICE"'
    if "key_variable" in said:
        return "key_variable is no environment variable's name in upper case, such as MY_KEY (never the key itself)"
    return said.replace("Object contains", "it has").replace("Object missing", "it has no")


def _hint(unknown: list[str]) -> str:
    return "; what `midspan models use` chose stands in config.json" if "checkpoint" in unknown else ""
