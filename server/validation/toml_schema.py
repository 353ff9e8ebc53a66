"""A fill in a TOML document that has a schema: it makes no error that was not there without it.

Without it means: the lines that it touches left out. The standard library's parser says what a document holds, not
where; so nothing is said of keys that a table lacks, and all of the fill counts as wrong.
"""

from __future__ import annotations

import datetime
import tomllib
from typing import TYPE_CHECKING, Any

from midspan.server.validation.schema_errors import INCOMPLETE, SHORT, Errors, counted, key_of, words_for
from midspan.server.validation.schema_files import check_in_time, schema_of
from midspan.server.validation.splice import Objection, Splice

if TYPE_CHECKING:
    from midspan.server.validation.schema_check import SchemaCheck

# Of longer documents nothing is said: the parser is written in Python.
MAX_CHARS = 10_000


def objection(splice: Splice) -> Objection | None:
    """What to say of a fill that brings an error by the document's schema.

    Nothing where the document does not parse with the fill, or without its lines, nor while the schema is not read yet.
    """
    if len(splice.before) + len(splice.fill) + len(splice.after) > MAX_CHARS:
        return None
    named = schema_of("toml", splice.uri, (splice.before, splice.after), splice.files)
    check = None if named is None else check_in_time(named.path, splice.files.patience_s)
    document = None if check is None else _read(splice.text)
    wrong = check.errors(document) if check is not None and document is not None else None
    if check is None or not wrong:
        return None
    rest = splice.after if splice.fill.endswith("\n") else splice.after.partition("\n")[2]
    without = _read(splice.before[: splice.before.rfind("\n") + 1] + rest)
    if without is None:
        return None
    before = counted(check.errors(without)) | _as_it_was(check, splice)
    skipped = INCOMPLETE if _is_whole(splice) else INCOMPLETE | SHORT
    for one in wrong:
        before[key_of(one)] -= one.keys
        if before[key_of(one)] < 0 and one.keyword not in skipped:
            return Objection(kind="schema", words=words_for(one), spans=((0, len(splice.fill)),))
    return None


def _as_it_was(check: SchemaCheck, splice: Splice) -> Errors:
    """Errors of type of the document without the fill, where that parses: the line may have been wrong before."""
    as_it_was = _read(splice.before + splice.after)
    errors = () if as_it_was is None else check.errors(as_it_was) or ()
    return counted([one for one in errors if one.keyword == "type"])


def _is_whole(splice: Splice) -> bool:
    """Whether the fill writes both quotes of each of its strings."""
    head, tail = splice.before.rpartition("\n")[2], splice.after.partition("\n")[0]
    return all(part.count(quote) % 2 == 0 for part in (head, tail) for quote in "\"'")


def _read(text: str) -> Any:
    """What a document holds, with dates as JSON has them; None where it is no TOML."""
    try:
        return _as_json(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value
