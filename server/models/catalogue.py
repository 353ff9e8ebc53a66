"""The models that midspan knows by name: where they are published, how large they are, and under which licence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("catalogue.json")
EMBEDDED = "embedded"
# The family whose large networks have no kernels on a CPU.
CANVAS = "diffusion_gemma"
# Bytes a parameter: packed in int8 or less on a CPU, in plain torch there, and in bf16 on a GPU.
PACKED_BYTES, PLAIN_BYTES, GPU_BYTES = 1, 4, 2
# What torch, the caches and the server take beside weights.
ROOM = 1_000_000_000


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model of the catalogue. It is one `file` of its repository, or without one all of its checkpoint's files.

    Of its `parameters` some are `in_layers` and `in_head` (see Glance), 0 where no time is estimated by them. `bytes`
    and `sha256` are exact where they are known, `about_bytes` is what is shown before the hub says. `cores` is how many
    a CPU needs for it to keep up with typing; without a number it needs a GPU. `terms` are a licence's limits.
    """

    name: str
    family: str
    repository: str
    parameters: int
    in_layers: int = 0
    in_head: int = 0
    about_bytes: int
    licence: str
    languages: str
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    cores: int | None = None
    terms: str | None = None

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes on a CPU, where the vocabulary is read in float32 and packed beside that."""
        if self.family == CANVAS:
            return PLAIN_BYTES * self.parameters + ROOM
        return PACKED_BYTES * self.parameters + PLAIN_BYTES * self.in_head + ROOM

    @property
    def gpu_memory(self) -> int:
        """Bytes of a GPU's memory that it takes."""
        return GPU_BYTES * self.parameters + ROOM


@cache
def catalogue() -> dict[str, Known]:
    """Every model by name, the smallest first."""
    known = msgspec.json.decode(FILE.read_bytes(), type=list[Known])
    return {one.name: one for one in known}


def published_as(repository: str | None, file: str | None) -> Known | None:
    """The model of the catalogue that a repository's file is; None if it is none."""
    return next((one for one in catalogue().values() if (one.repository, one.file) == (repository, file)), None)
