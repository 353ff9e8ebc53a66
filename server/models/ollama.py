"""Ollama's models: a manifest names the digest of the GGUF file, which lies under that name beside others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from midspan.server.models.walk import Note, files_below

MOST_MANIFEST, MOST_LICENCE = 1 << 16, 1 << 10
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
KIND = "application/vnd.ollama.image."
OWN = ("registry.ollama.ai", "library")


class _Layer(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="mediaType", default="")
    digest: str = ""


class _Manifest(msgspec.Struct, frozen=True):
    layers: list[_Layer] = []


@dataclass(frozen=True, slots=True)
class OllamaModel:
    """A model's name as Ollama has it, its file, and the first line of its licence where it has one."""

    name: str
    file: Path
    licence: str | None


def ollama_models(folder: Path, note: Note) -> Iterator[OllamaModel]:
    """Every model whose manifest names a file that is there; `note` is told of manifests that are none."""
    manifests = folder / "manifests"
    for path in files_below(manifests, note):
        try:
            with path.open("rb") as opened:
                manifest = msgspec.json.decode(opened.read(MOST_MANIFEST), type=_Manifest)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            note(f"{path}: no manifest of Ollama's ({' '.join(str(error).split())[:80]})")
            continue
        files = {layer.kind.removeprefix(KIND): _blob(folder, layer.digest) for layer in manifest.layers}
        if (file := files.get("model")) is None:
            note(f"{path}: names no model's file; run ollama pull again")
        elif not os.path.isfile(file):
            note(f"{path}: its file {file.name[:20]}... is missing; run ollama pull again")
        else:
            yield OllamaModel(_name(path.relative_to(manifests).parts), file, _licence(files.get("license")))


def _blob(folder: Path, digest: str) -> Path | None:
    """The file of a digest; None for a text that is none, as a manifest may hold anything."""
    return folder / "blobs" / digest.replace(":", "-") if DIGEST.fullmatch(digest) else None


def _name(parts: tuple[str, ...]) -> str:
    """`qwen2.5-coder:1.5b` for Ollama's own, else with what stands before it."""
    shown = parts[len(OWN) :] if parts[: len(OWN)] == OWN else parts
    return f"{'/'.join(shown[:-1])}:{shown[-1]}"


def _licence(file: Path | None) -> str | None:
    if file is None or not os.path.isfile(file):
        return None
    with file.open("rb") as opened:
        lines = opened.read(MOST_LICENCE).decode("utf-8", "replace").split("\n")
    return next((line.strip()[:40] for line in lines if line.strip()), None)
