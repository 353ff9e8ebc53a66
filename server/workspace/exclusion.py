"""What no prompt may hold: secrets by their files' names, what the user excludes, and private keys anywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from midspan.engine.api import Hole

# Settings with passwords, keys, certificates, and the files in which tools keep tokens.
SECRET_NAMES = (
    ".env*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p8",
    "*.p12",
    "*.pfx",
    "*.crt",
    "*.cer",
    "*.der",
    "*.csr",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.asc",
    "*.gpg",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".git-credentials",
    ".dockercfg",
    "*.tfvars",
    "*.tfstate",
    "credentials",
    "credentials.json",
    "credentials.y*ml",
    "credentials.toml",
    "credentials.ini",
    "credentials.csv",
    "secrets.json",
    "secrets.y*ml",
    "secrets.toml",
    "secrets.ini",
    "kubeconfig",
)
# How the first and the last line of a key end; a text with a part of one has either, or is all within it.
PRIVATE_KEY = re.compile(r"PRIVATE KEY(?: BLOCK)?-----")
# A literal that is long, without a space and with a figure in it, or that something with such a name is set to.
TOKEN = r"""(["'`])(?=[^"'`]*\d)[\w+/=.~:-]{20,}\1"""
NAMES = "(?i:passw(?:or)?d|passphrase|secret|token|api_?key|credential|auth)"
NAMED = rf"""{NAMES}\w*["']?\]?\s*(?::[^=]*)?[:=]\s*["'`][^"'`]"""
SECRET_LITERAL = re.compile(f"{TOKEN}|{NAMED}")
KEY_NEAR = "a private key stands near the gap, and no prompt may hold one"
SECRET_FOLDERS = (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker")


def is_excluded(uri: str, patterns: Sequence[str] = ()) -> bool:
    """Whether the file's text must stay out of every prompt.

    `patterns` are the user's: one without a slash is matched with the file's name and every folder's above it, one with
    a slash with the end of the path. Case does not count. A URI that cannot be read may name anything: it is excluded.
    """
    return _is_secret(uri) or is_matched(uri, patterns)


def is_matched(uri: str, patterns: Sequence[str]) -> bool:
    """Whether one of the user's patterns names the file, as `is_excluded` reads them."""
    return bool(patterns) and _is_matched(uri, tuple(patterns))


def has_private_key(text: str) -> bool:
    """Whether a text holds a private key in PEM's form, or the mark of one."""
    return PRIVATE_KEY.search(text) is not None


def may_hold_secret(line: str) -> bool:
    """Whether a line has a literal like a password or a token."""
    return SECRET_LITERAL.search(line) is not None


def asks_about_a_key(hole: Hole) -> bool:
    """Whether a private key stands in what the engine would be asked about."""
    return any(has_private_key(text) for text in (hole.prefix, hole.suffix, hole.draft))


@lru_cache(maxsize=1024)
def _is_secret(uri: str) -> bool:
    parts = _parts(uri)
    if parts is None:
        return True
    return bool(parts) and (_matches(parts[-1], SECRET_NAMES) or not set(SECRET_FOLDERS).isdisjoint(parts[:-1]))


@lru_cache(maxsize=1024)
def _is_matched(uri: str, patterns: tuple[str, ...]) -> bool:
    parts = _parts(uri) or []
    path = "/" + "/".join(parts)
    for pattern in patterns:
        if "/" in pattern:
            if _matches(path, ("*/" + pattern.strip("/"), "*/" + pattern.strip("/") + "/*")):
                return True
        elif any(_matches(part, (pattern,)) for part in parts):
            return True
    return False


def _parts(uri: str) -> list[str] | None:
    """The folders and the name of a file, in lower case; None for a URI that is none."""
    try:
        path = urlsplit(uri).path
    except ValueError:
        return None
    return [part for part in re.split(r"[/\\]", unquote(path).lower()) if part]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.match(translate(pattern.lower()), name) for pattern in patterns)
