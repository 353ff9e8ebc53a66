"""Where programs keep models on this machine: the hub's cache, and the folders of llama.cpp, Ollama and LM Studio."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Program = Literal["midspan", "hub cache", "llama.cpp", "Ollama", "LM Studio"]
OLLAMA_SERVICE = Path("/usr/share/ollama/.ollama/models")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and the program that keeps models in it."""

    program: Program
    folder: Path


def hub_cache(environment: Mapping[str, str]) -> Path:
    """The hub's cache, by the variables that the hub's own programs read."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(environment[name]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    return _caches(environment) / "huggingface" / "hub"


def places(environment: Mapping[str, str]) -> list[Place]:
    """Every folder that is looked into, whether it is there or not."""
    home = Path.home()
    found = [Place("hub cache", hub_cache(environment))]
    if environment.get("LLAMA_CACHE"):
        found.append(Place("llama.cpp", Path(environment["LLAMA_CACHE"])))
    elif sys.platform == "darwin":
        found.append(Place("llama.cpp", home / "Library" / "Caches" / "llama.cpp"))
    else:
        found.append(Place("llama.cpp", _caches(environment) / "llama.cpp"))
    if environment.get("OLLAMA_MODELS"):
        found.append(Place("Ollama", Path(environment["OLLAMA_MODELS"])))
    else:
        found += [Place("Ollama", home / ".ollama" / "models"), Place("Ollama", OLLAMA_SERVICE)]
    for folder in (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"):
        found.append(Place("LM Studio", folder))
    return found


def _caches(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
