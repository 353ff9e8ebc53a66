"""docs/router.md has the whole default policy, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from midspan.server.backends.configured import configured_by
from midspan.server.router.policy import DEFAULT

DOCUMENT = Path(__file__).parents[3] / "docs" / "router.md"


def test_the_document_has_the_default_in_full() -> None:
    [written] = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert tomllib.loads(written)["policy"] == msgspec.json.decode(msgspec.json.encode(DEFAULT))


def test_the_documents_engines_are_read() -> None:
    [written] = re.findall(r"```\n(\[\[backends.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    found = configured_by(tomllib.loads(written), "configuration", "docs/router.md")
    assert [one.name for one, _ in found.backends] == ["qwen", "team"]
