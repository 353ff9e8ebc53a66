"""What URIs name: the path in one of any scheme, and the key that stands for a document in the index."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from midspan.server.text.hole import encodable

NESTED = re.compile(r"[A-Za-z][\w+.-]*:")  # jar:file:/..., and schemes with a letter that RFC 3986 does not allow
MAX_NESTED = 4


def key_of(uri: str) -> str:
    """What a document is called in the index: its path, or the URI of one that is no file, or no right URI."""
    uri = encodable(uri)
    try:
        path = path_of(uri) if uri[:5].lower() == "file:" else None
    except ValueError:
        return uri
    return uri if path is None else key_of_path(path)


def key_of_path(path: str) -> str:
    """What a file is called in the index: its path, or its URI where the name is not UTF-8, which no message holds."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + "".join(chr(byte) if byte in b"/" else f"%{byte:02X}" for byte in os.fsencode(path))
    return path


def path_of_key(key: str) -> str | None:
    """The file's path; None for the key of a document that is none."""
    if os.path.isabs(key):
        return key
    return path_of(key) if key.startswith("file:") else None


def path_of(uri: str) -> str | None:
    """The absolute path that a URI of any scheme names: `untitled:`, `git:` and a notebook's cell have one as well.

    None where there is none. Raises ValueError for what is no right URI.
    """
    parts = urlsplit(encodable(uri))
    path = parts.path
    for _ in range(MAX_NESTED):
        if (nested := NESTED.match(path)) is None:
            break
        path = path[nested.end() :]
        if path.startswith("//"):
            path = "/" + path[2:].partition("/")[2]
    if os.name == "nt":
        found = url2pathname(path)
    else:
        found = os.fsdecode(unquote_to_bytes(path))
        found = "/" + found.lstrip("/") if found.startswith("/") else found
    return os.path.normpath(found) if os.path.isabs(found) else None
