"""Which files and documents no prompt and no suggestion may hold: by a name that secrets have, by the user's patterns,
and by what git ignores. What of all other text is held back stands in secret_patterns.py."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from midspan.server.text.uris import path_of
from midspan.server.workspace.git_ignore import MAX_PATH_BYTES, Ignored

# Settings with passwords, keys, certificates, and the files in which tools keep tokens.
SECRET_NAMES = (
    ".env*", "*.env", ".envrc", "*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.pkcs12", "*.crt", "*.cer", "*.der",
    "*.csr", "*.jks", "*.jceks", "*.keystore", "*.truststore", "*.kdb", "*.kdbx", "*.ppk", "*.asc", "*.gpg", "*.age",
    "*.ovpn", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".pgpass", "pgpass.conf", ".my.cnf",
    ".mylogin.cnf", ".npmrc", ".yarnrc.yml", ".pypirc", ".htpasswd", "htpasswd", ".git-credentials", ".dockercfg",
    ".boto", ".s3cfg", ".vault-token", ".vault_pass*", "master.key", "wp-config.php", "*.tfvars", "*.tfstate",
    "*.tfstate.*", "credentials", "credentials.*", ".credentials*", "secret", "secret.*", "secrets", "secrets.*",
    ".secret*", "*.secret", "*.secrets", "passwords", "passwords.*", "client_secret*.json", "service-account*.json",
    "service_account*.json", "kubeconfig",
)  # fmt: skip
SECRET_FOLDERS = (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", "gcloud")
# A module of this name is code; it is kept out of other files' prompts, but may be completed itself.
SOURCE_NAMES = re.compile(
    r"(?:credentials?|secrets?|passwords)\.(?:pyi?|[cm]?[jt]sx?|java|go|rs|rb|php|cs|c|cpp|h|hpp|lua)"
)
NAMED = "its name or a folder's is one that secrets have, or cannot be read"
EXCLUDED = "the setting `exclude` names it"
IGNORED = "git ignores it"
MAX_LINKS, MAX_KNOWN = 40, 1024


def is_excluded(uri: str, patterns: Sequence[str] = (), *, own: bool = False) -> bool:
    """Whether the name of a file keeps its text out of every prompt.

    `patterns` are the user's: one without a slash is matched with the file's name and every folder's above it, one with
    a slash with the end of the path. Case does not count. A URI that cannot be read may name anything: it is excluded.
    With `own`, the question is about prompts for the file itself: the name of a module of code does not count.
    """
    parts = _parts(uri)
    return parts is None or _is_secret(parts, own=own) or _is_matched(parts, tuple(patterns))


def is_matched(uri: str, patterns: Sequence[str]) -> bool:
    """Whether one of the user's patterns names the file, as `is_excluded` reads them."""
    return bool(patterns) and _is_matched(_parts(uri) or (), tuple(patterns))


class Exclusion:
    """The whole policy for files and documents. It keeps what it has read of git's rules until it is told to forget."""

    def __init__(self, roots: Iterable[Path | str] = ()) -> None:
        self._roots = tuple(map(str, roots))
        self.forget()

    def open_folders(self, roots: Iterable[Path | str]) -> None:
        """The folders that are open now; git's rules begin there outside of repositories."""
        if (now := tuple(map(str, roots))) != self._roots:
            self._roots = now
            self.forget()

    def forget(self) -> None:
        """Read git's rules again at the next question."""
        self.ignored = Ignored(self._roots)
        self._known = dict[tuple[str, tuple[str, ...], bool], str | None]()

    def reason(self, uri: str, patterns: Sequence[str] = (), *, own: bool = False) -> str | None:
        """Why no prompt may hold a document's text, without its name; None where one may.

        The scheme does not count: a notebook's cell, an unsaved file and an older version obey the rules for their
        path. What a symbolic link leads to is asked as well. For `own` see is_excluded.
        """
        key = uri, tuple(patterns), own
        if key not in self._known:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = self._reason(*key)
        return self._known[key]

    def _reason(self, uri: str, patterns: tuple[str, ...], own: bool) -> str | None:
        if is_excluded(uri, own=own):
            return NAMED
        if is_matched(uri, patterns):
            return EXCLUDED
        path = path_of(uri)
        if path is None:
            return None
        if uri[:5].lower() != "file:" and ".git" in path.split(os.sep):
            # A file's older version, of which the path in the work tree cannot be told.
            return IGNORED
        return next(filter(None, (self.reason_of_path(one, patterns, own=own) for one in leads_to(path))), None)

    def reason_of_path(self, path: str, patterns: tuple[str, ...], *, own: bool = False) -> str | None:
        """The same for a path by itself, whatever it leads to."""
        parts = _split(path)
        if _is_secret(parts, own=own):
            return NAMED
        if _is_matched(parts, patterns):
            return EXCLUDED
        return IGNORED if self.ignored(path) else None


def leads_to(path: str) -> Iterator[str]:
    """A path, and every path that it stands for, one symbolic link after the other."""
    for _ in range(MAX_LINKS):
        yield path
        if len(path) > MAX_PATH_BYTES or (path_now := _followed(path)) is None:
            return
        path = path_now


def _followed(path: str) -> str | None:
    """The path with its first link replaced by what it leads to; None where there is none, or it cannot be read."""
    at, _, rest = path.partition(os.sep)
    at += os.sep
    while rest:
        name, _, rest = rest.partition(os.sep)
        at = os.path.join(at, name)
        if os.path.islink(at):
            try:
                return os.path.normpath(os.path.join(os.path.dirname(at), os.readlink(at), rest))
            except (OSError, ValueError):
                return None
    return None


@lru_cache(maxsize=1024)
def _parts(uri: str) -> tuple[str, ...] | None:
    """The folders and the name of a file, in lower case; None for a URI that is none."""
    try:
        return _split(unquote(urlsplit(uri).path))
    except ValueError:
        return None


def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[/\\]", path.lower()) if part)


def _is_secret(parts: tuple[str, ...], *, own: bool) -> bool:
    if not parts:
        return False
    named = _any_of(SECRET_NAMES).match(parts[-1]) is not None and not (own and SOURCE_NAMES.fullmatch(parts[-1]))
    return named or not set(SECRET_FOLDERS).isdisjoint(parts[:-1])


def _is_matched(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    names = tuple(pattern for pattern in patterns if "/" not in pattern)
    ends = tuple(pattern.strip("/") for pattern in patterns if "/" in pattern)
    if names and any(_any_of(names).match(part) for part in parts):
        return True
    return (
        bool(ends)
        and _any_of(tuple(f"*/{end}{more}" for end in ends for more in ("", "/*"))).match("/" + "/".join(parts))
        is not None
    )


@lru_cache(maxsize=64)
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern.lower()) for pattern in patterns))
