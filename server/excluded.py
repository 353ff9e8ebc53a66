"""Files that no prompt may hold: secrets by their names, and what the user excludes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from urllib.parse import unquote, urlsplit

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
SECRET_FOLDERS = (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker")


def is_excluded(uri: str, patterns: Sequence[str] = ()) -> bool:
    """Whether the file's text must stay out of every prompt.

    `patterns` are the user's: one without a slash is matched with the file's name and every folder's above it, one with
    a slash with the end of the path. Case does not count.
    """
    return _is_excluded(uri, tuple(patterns))


@lru_cache(maxsize=1024)
def _is_excluded(uri: str, patterns: tuple[str, ...]) -> bool:
    parts = [part for part in re.split(r"[/\\]", unquote(urlsplit(uri).path).lower()) if part]
    if not parts:
        return False
    if _matches(parts[-1], SECRET_NAMES) or not set(SECRET_FOLDERS).isdisjoint(parts[:-1]):
        return True
    path = "/" + "/".join(parts)
    for pattern in patterns:
        if "/" in pattern:
            if _matches(path, ("*/" + pattern.strip("/"), "*/" + pattern.strip("/") + "/*")):
                return True
        elif any(_matches(part, (pattern,)) for part in parts):
            return True
    return False


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(re.match(translate(pattern.lower()), name) for pattern in patterns)
