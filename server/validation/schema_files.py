"""The JSON schema of a document: a file that it names itself, or the user for such files; never fetched.

A workspace is nobody's word: a schema is a plain file of bounded size within the document's folder, and what could make
a check take for ever (a pattern that backtracks) is not judged by. It is read and checked on a thread.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotReady
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from midspan.server.text.documents import Document
from midspan.server.text.uris import path_of
from midspan.server.validation.plain_patterns import is_plain
from midspan.server.validation.splice import Files
from midspan.server.workspace.exclusion import is_matched
from midspan.server.workspace.plain_files import read_plain, stamp

if TYPE_CHECKING:
    from midspan.server.validation.schema_check import SchemaCheck

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
MOST_KEPT = 16
# The key stands at a document's beginning; behind the gap it is looked for as far.
HEAD_CHARS = 4096
HEAD_LINES = 100
# How a document names it, by language: as editors and their servers have it.
NAMED = {
    "json": re.compile(r'"\$schema"\s*:\s*("(?:[^"\\\n]|\\.)*")'),
    "toml": re.compile(r"^#:schema[ \t]+(\S+)", re.MULTILINE),
    "yaml": re.compile(r"^#[ \t]*yaml-language-server:[ \t]*\$schema=(\S+)", re.MULTILINE),
}
Ready = Future["SchemaCheck | None"]
_known: dict[tuple[str, tuple[int, int]], Ready] = {}


class Named(NamedTuple):
    """A schema's file, and the words by which the document names it; None where the user does."""

    path: str
    reference: str | None


def schema_of(language: str, uri: str, around: tuple[str, str], files: Files) -> Named | None:
    """The schema of a document in a language, by the text before and behind a gap; None for no file of either.

    The document's own word goes first, where it names a file of its workspace.
    """
    reference = reference_in(*around, language)
    if reference is not None and (own := file_of(reference, uri, files.folders)) is not None:
        return Named(own, reference)
    path = _by_user(uri, files) if language in NAMED else None
    return None if path is None else Named(path, None)


def has_schema(document: Document, files: Files) -> bool:
    """Whether a file is a document's schema, by the document's beginning; the file is not read."""
    if document.language_id not in NAMED:
        return False
    named = schema_of(document.language_id, document.uri, ("".join(document.lines[:HEAD_LINES]), ""), files)
    return named is not None and stamp(named.path) is not None


def _by_user(uri: str, files: Files) -> str | None:
    """The first file that the user names for such documents; a relative one lies in the document's open folder."""
    named = next((file for pattern, file in files.schemas.items() if is_matched(uri, (pattern,))), None)
    document = _path(uri)
    if named is None or "\0" in named or document is None:
        return None
    around = [folder for folder in files.folders if _is_in(document, os.path.abspath(folder))]
    return os.path.realpath(os.path.join(around[0] if around else os.path.dirname(document), os.path.expanduser(named)))


def reference_in(before: str, after: str, language: str = "json") -> str | None:
    """What the text around a gap names as its schema, as it is spelled; None for nothing, and for a web address."""
    if (name := NAMED.get(language)) is None:
        return None
    found = name.search(before, 0, HEAD_CHARS) or name.search(after, 0, HEAD_CHARS)
    if found is None:
        return None
    try:
        reference: str = json.loads(found[1]) if language == "json" else found[1]
    except ValueError:
        return None
    return None if re.match(r"(?!file:)[A-Za-z][\w+.-]+:", reference) or reference.startswith("//") else reference


def file_of(reference: str, uri: str, folders: Sequence[Path]) -> str | None:
    """The file that a reference in a document names; None where it lies outside of the document's workspace.

    That is the open folder that holds the document, or where there is none the document's own folder.
    """
    document = _path(uri)
    named = _path(reference) if reference[:5].lower() == "file:" else reference.partition("#")[0]
    if document is None or not named or "\0" in named:
        return None
    own = os.path.dirname(document)
    path = os.path.realpath(os.path.join(own, named))
    around = [os.path.realpath(folder) for folder in folders if _is_in(document, os.path.abspath(folder))]
    return path if any(_is_in(path, folder) for folder in around or [os.path.realpath(own)]) else None


def _path(uri: str) -> str | None:
    """The path of a file's URI; None for any other one, and for what is no right URI."""
    try:
        return path_of(uri) if uri[:5].lower() == "file:" else None
    except ValueError:
        return None


def _is_in(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def check_of(path: str) -> Ready:
    """The check by the schema in a file, which is made on a thread; its result is None where the file is none."""
    seen = stamp(path)
    if seen is None:
        none = Ready()
        none.set_result(None)
        return none
    if (path, seen) not in _known:
        while len(_known) >= MOST_KEPT:
            del _known[next(iter(_known))]
        ready = _known[path, seen] = Ready()
        threading.Thread(target=_make, args=(path, ready), name="midspan-schema", daemon=True).start()
    return _known[path, seen]


def check_in_time(path: str, patience_s: float) -> SchemaCheck | None:
    """The check, where it is there within so many seconds."""
    try:
        return check_of(path).result(patience_s)
    except NotReady:
        return None


def _make(path: str, ready: Ready) -> None:
    check = None
    try:
        check = _read(path)
    except ImportError:
        log.info("a file's JSON schema is not used: pip install 'midspan[schemas]'")
    except (ValueError, RecursionError) as error:
        # The error may quote the schema: its kind says enough.
        log.info("a file's JSON schema is not used, as it is none that can be: %s", type(error).__name__)
    finally:
        ready.set_result(check)


def _read(path: str) -> SchemaCheck | None:
    """Raises ImportError without jsonschema, ValueError or RecursionError for what is no schema that can be used."""
    data = read_plain(path, MOST_BYTES + 1)
    if data is None or len(data) > MOST_BYTES:
        return None
    schema = json.loads(data.decode("utf-8-sig"))
    if not all(is_plain(pattern) for pattern in _keys_that_are_patterns(schema)):
        raise ValueError("a pattern of keys that is too complicated")
    # It imports jsonschema, which takes long and may not be there.
    from midspan.server.validation.schema_check import SchemaCheck

    return SchemaCheck(schema)


def _keys_that_are_patterns(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        patterns = schema.get("patternProperties")
        yield from patterns if isinstance(patterns, dict) else ()
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for one in inner:
        yield from _keys_that_are_patterns(one)
