"""What answers on the ports of this machine where model servers usually listen. Nothing beyond loopback is asked."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# llama-server's of today and before, llama.vim's, Ollama's, LM Studio's, vLLM's.
PORTS = (9931, 8080, 8012, 11434, 1234, 8000)
HOST = "127.0.0.1"
PATIENCE_S = 1.0
MOST_BYTES = 1 << 20
SHOWN = 5  # models of one server
# What a file of the user's may quote without being escaped.
PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A server: its kind, its address, and the models that it names."""

    kind: str
    address: str
    models: tuple[str, ...] = ()


def find(ports: Iterable[int] = PORTS) -> list[Found]:
    """Every server that is known by what it answers, in the ports' order."""
    ports = list(ports)
    with ThreadPoolExecutor(len(ports)) as threads:
        return [found for found in threads.map(_at, ports) if found is not None]


def lines_to_add(found: Iterable[Found], taken: Iterable[str] = ()) -> Iterator[str]:
    """What to write into config.toml for each of them, with a name that none of the others has, nor is `taken`."""
    names = set(taken)
    for one in found:
        for model in one.models or ("",):
            plain = {"vllm-diffusion": "vllm", "completions": "server"}.get(one.kind, one.kind)
            free = (plain, *(f"{plain}{number}" for number in range(2, len(names) + 3)))
            name = next(name for name in free if name not in names)
            names.add(name)
            yield "[[backends]]"
            yield f'name = "{name}"'
            yield f'kind = "{one.kind}"'
            yield f'address = "{one.address}"'
            if model:
                yield f'model = "{model}"'
            yield ""


def same_place(address: str) -> str:
    """An address as `find` spells it: this machine by its number, and nothing behind the port."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return address
    host = HOST if parts.hostname in ("localhost", "::1", "0.0.0.0") else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{host}:{port}{path}"


def _at(port: int) -> Found | None:
    """What listens on a port; None for nothing, and for what is not known."""
    address = f"http://{HOST}:{port}"
    if isinstance(_json(port, "/props"), dict) and isinstance(_json(port, "/health"), dict):
        return Found(kind="llama-server", address=address)
    if models := _names(_json(port, "/api/tags"), "models", "name"):
        return Found(kind="ollama", address=address, models=models)
    if models := _names(_json(port, "/v1/models"), "data", "id"):
        diffusion = any("diffusion" in model.lower() for model in models)
        return Found(kind="vllm-diffusion" if diffusion else "completions", address=address, models=models)
    return None


def _names(answer: Any, key: str, name: str) -> tuple[str, ...]:
    rows = answer.get(key) if isinstance(answer, dict) else None
    found = [row.get(name) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(one for one in found if isinstance(one, str) and one and PLAIN.issuperset(one))[:SHOWN]


def _json(port: int, path: str) -> Any:
    """The JSON at a path; None for anything else. No proxy is asked, and no redirect followed."""
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read(MOST_BYTES)) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return None
    finally:
        connection.close()
