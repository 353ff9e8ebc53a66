"""Pictures of fills in documents that have a schema, where `├…┤` is the fill."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from midspan.server.validation.splice import Files, Objection, Splice
from tests.server.pictures import cut

WAIT_S = 60.0


def project(folder: Path, schema: dict[str, Any]) -> Path:
    """A folder below this one with a schema, which stands outside of it as well."""
    inner = folder / "project"
    inner.mkdir()
    for file in (inner / "schema.json", folder / "outside.json"):
        file.write_text(json.dumps(schema), encoding="utf-8")
    return inner


def objected(objection: Callable[[Splice], Objection | None], file: Path, picture: str) -> Objection | None:
    """What a validator of schemas says of a picture of this file."""
    before, fill, after = cut(picture)
    files = Files(patience_s=WAIT_S)
    found = objection(Splice(uri=file.as_uri(), before=before, fill=fill, after=after, files=files))
    assert found is None or found.kind == "schema"
    return found
