"""The JSON schema that a document names: a file of its workspace, read and checked on a thread, never fetched.

A workspace is nobody's word: a schema is a plain file of bounded size within the document's folder, and what could make
a check take for ever (a pattern that backtracks) is not judged by.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from midspan.server.text.uris import path_of
from midspan.server.validation.plain_patterns import is_plain
from midspan.server.workspace.plain_files import read_plain, stamp

if TYPE_CHECKING:
    from midspan.server.validation.schema_check import SchemaCheck

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
MOST_KEPT = 16
# The key stands at a document's beginning; behind the gap it is looked for as far.
HEAD_CHARS = 4096
NAMED = re.compile(r'"\$schema"\s*:\s*("(?:[^"\\\n]|\\.)*")')
Ready = Future["SchemaCheck | None"]
_known: dict[tuple[str, tuple[int, int]], Ready] = {}


def reference_in(before: str, after: str) -> str | None:
    """What the text around a gap names as its schema, as it is spelled; None for nothing, and for a web address."""
    found = NAMED.search(before, 0, HEAD_CHARS) or NAMED.search(after, 0, HEAD_CHARS)
    if found is None:
        return None
    try:
        reference: str = json.loads(found[1])
    except ValueError:
        return None
    return None if re.match(r"(?!file:)[A-Za-z][\w+.-]+:", reference) or reference.startswith("//") else reference


def file_of(reference: str, uri: str, folders: Sequence[Path]) -> str | None:
    """The file that a reference in a document names; None where it lies outside of the document's workspace.

    That is the open folder that holds the document, or where there is none the document's own folder.
    """
    try:
        document = path_of(uri) if uri[:5].lower() == "file:" else None
        named = path_of(reference) if reference[:5].lower() == "file:" else reference.partition("#")[0]
    except ValueError:
        return None
    if document is None or not named or "\0" in named:
        return None
    own = os.path.dirname(document)
    path = os.path.realpath(os.path.join(own, named))
    around = [os.path.realpath(folder) for folder in folders if _is_in(document, os.path.abspath(folder))]
    return path if any(_is_in(path, folder) for folder in around or [os.path.realpath(own)]) else None


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
