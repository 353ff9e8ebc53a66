"""llama.cpp's llama-server as a process of its own, asked over HTTP as its editor plugins ask it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from midspan.engine.api import Hole
from midspan.engine.prompts.marks import MarksPrompt

PROGRAM = Path(__file__).parent.parent / ".cache" / "llama" / "llama-server"
START_S, ANSWER_S = 120.0, 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a fill reads: text above the gap's line, that line's beginning, and the text behind the gap."""

    above: str
    line: str
    behind: str

    @classmethod
    def of(cls, hole: Hole, prompt: MarksPrompt) -> Read:
        """The text of a hole that midspan's own prompt of it holds."""
        layout, parts = prompt.lay_out(hole), list[list[int]]()
        for token in layout.prefix:
            if token in prompt.special_ids:
                parts.append([])
            else:
                parts[-1].append(token)
        texts = [prompt.decode(part) for part in parts[-3:]]
        if prompt.marks.suffix_first:
            texts[0], texts[1] = texts[1], texts[0]
        return cls(above=texts[0], behind=texts[1], line=texts[2] + layout.heal)


class LlamaServer:
    """A running llama-server; the context manager ends it."""

    def __init__(self, gguf: Path, threads: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{free.getsockname()[1]}"
        port = self._url.rpartition(":")[2]
        command = [str(PROGRAM), "--model", str(gguf), "--port", port, "--threads", str(threads)]
        # One slot, whose cache is then the last request's, as with its editor plugins' own settings.
        command += ["--ctx-size", "4096", "--parallel", "1", "--cache-reuse", "64", "--offline", "--log-disable"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Self:
        end = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self._url}/health", timeout=5):
                    return self
            except (urllib.error.URLError, ConnectionError):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{PROGRAM.name} did not start: run benchmarks/fetch_llama_server.sh") from None
                time.sleep(0.2)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()

    def infill(self, read: Read, tokens: int) -> dict[str, Any]:
        """The answer of /infill for a fill of one line, of at most so many tokens: `content`, `timings`."""
        asked = {
            "input_prefix": read.above,
            "prompt": read.line,
            "input_suffix": read.behind,
            "n_predict": tokens,
            "stop": ["\n"],
            "temperature": 0.0,
            "top_k": 1,
            "cache_prompt": True,
        }
        return self._post("/infill", asked)

    def complete(self, ids: list[int], tokens: int, likely: int) -> tuple[list[int], dict[int, float]]:
        """The likeliest tokens behind some tokens, at most so many, and log-probabilities of the likely first ones."""
        asked = {"prompt": ids, "n_predict": tokens, "temperature": 0.0, "top_k": 1, "return_tokens": True}
        found = self._post("/completion", asked | {"n_probs": likely})
        first = found["completion_probabilities"][0]["top_logprobs"]
        return found["tokens"], {one["id"]: one["logprob"] for one in first}

    def _post(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(asked).encode()
        request = urllib.request.Request(self._url + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
