"""Against the real llama-server with a real small model, SmolLM2-135M; tests/engine/remote/fetch.sh has both.

That model was never taught to fill gaps: a copy of it calls three tokens that it does not use those of
fill-in-the-middle, so that what it writes is text, and no more is asked of it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from midspan.engine.api import Budget, Frame, RemoteError
from midspan.engine.remote import Remote, probe
from midspan.engine.remote.writing import UNKNOWN
from tests.engine.remote.holes import connected, filled, hole_of, refused, remote_at

CACHE = Path(__file__).parents[3] / ".cache"
PROGRAM, MODELS = CACHE / "llama" / "llama-server", CACHE / "smollm2"
# A busy machine of two cores needs half of it.
START_S, ANSWER_S = 60.0, 60.0
LINE = hole_of("numbers = [1, 2, 3, 4, ‸")
LINES = hole_of("# To be continued\n‸", "span")

pytestmark = [pytest.mark.llama_server, pytest.mark.timeout(240)]


class Running:
    """A llama-server that reads one model on one thread, and its address."""

    def __init__(self, model: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [str(PROGRAM), "--model", str(MODELS / model), "--port", str(port), "--ctx-size", "512"]
        command += ["--threads", "1", "--threads-batch", "1", "--parallel", "1", "--poll", "0", "--slots", "--metrics"]
        command += ["--no-warmup", "--offline", "--log-disable"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @property
    def remote(self) -> Remote:
        """It, as a remote server."""
        return remote_at(self.url)

    def get(self, path: str, asked: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of a GET, or of a POST of what is asked; 0 where nobody answers yet."""
        body = None if asked is None else json.dumps(asked).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, body), timeout=ANSWER_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None
        except (urllib.error.URLError, ConnectionError):
            return 0, None

    def wait_for(self, status: int) -> None:
        """Until /health has this status."""
        end = time.monotonic() + START_S
        while self.get("/health")[0] != status:
            assert time.monotonic() < end
            with pytest.raises(subprocess.TimeoutExpired):
                # It shall go on running; this is the pause as well.
                self.process.wait(timeout=0.02)

    def is_idle(self) -> bool:
        """Whether its one slot has nothing to do."""
        return not self.get("/slots")[1][0]["is_processing"]


@contextmanager
def running(model: str) -> Iterator[Running]:
    """A server from its start on, ended afterwards."""
    assert PROGRAM.exists(), "no llama-server: run make llama-server"
    server = Running(model)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(timeout=ANSWER_S)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One that is ready, with a model that has the tokens."""
    with running("fim.gguf") as started:
        started.wait_for(200)
        yield started


def test_a_gap_is_filled_as_the_server_itself_says(server: Running) -> None:
    asked = {"input_prefix": "", "prompt": LINE.prefix, "input_suffix": "\n", "n_predict": 48, "stop": ["\n"]}
    _, said = server.get("/infill", asked | {"temperature": 0.0, "top_k": 1, "stream": False})
    fill = filled(server.remote, LINE, Budget(deadline_s=ANSWER_S))
    assert fill.text
    assert fill.text == said["content"]
    assert 0 < fill.confidence < 1
    assert fill.stopped == "settled"
    assert fill.latency.encode + fill.latency.denoise <= fill.latency.total


def test_its_other_route_takes_a_prompt_of_our_own(server: Running) -> None:
    model = server.get("/v1/models")[1]["data"][0]["id"]
    remote = Remote(name="there", kind="completions", address=server.url, model=model, template="starcoder2")
    assert probe(remote).state == "ready"
    frames = list[Frame]()
    with connected(remote) as engine:
        fill = engine.fill(LINES, Budget(deadline_s=ANSWER_S), on_frame=frames.append).result(ANSWER_S)
    assert 0 < fill.steps <= 192
    assert "".join(cell.text for cell in frames[-1].cells).strip()
    # It says how likely each token was.
    assert fill.confidence != UNKNOWN


def test_a_probe_says_what_it_can(server: Running) -> None:
    health = probe(server.remote)
    assert (health.state, health.model, health.infill, health.logprobs) == ("ready", "fim.gguf", True, True)


def test_stopping_leaves_its_slot_idle_within_a_second(server: Running) -> None:
    begun, stop = threading.Event(), threading.Event()
    with connected(server.remote) as engine:
        future = engine.fill(LINES, Budget(), stop=stop, on_frame=lambda _: begun.set())
        assert begun.wait(ANSWER_S)
        assert not server.is_idle()
        stop.set()
        end = time.monotonic() + 1.0
        assert future.result(1.0).stopped == "cancelled"
        while not server.is_idle():
            assert time.monotonic() < end


def test_one_that_loads_says_so_and_one_that_is_killed_breaks_off() -> None:
    with running("fim.gguf") as server:
        server.wait_for(503)
        error = refused(server.remote)
        assert error.status == 503
        assert "loading its model" in str(error)
        server.wait_for(200)
        begun = threading.Event()
        with connected(server.remote) as engine:
            future = engine.fill(LINES, Budget(), on_frame=lambda _: begun.set())
            assert begun.wait(ANSWER_S)
            server.process.kill()
            killed = future.exception(ANSWER_S)
            assert isinstance(killed, RemoteError)
            assert "broke off" in str(killed)
            server.process.wait(timeout=ANSWER_S)
            gone = engine.fill(LINE, Budget()).exception(ANSWER_S)
            assert "nothing answers there" in str(gone)


def test_a_model_without_the_tokens_is_refused_with_the_fix() -> None:
    with running("plain.gguf") as server:
        server.wait_for(200)
        error, health = refused(server.remote), probe(server.remote)
    assert error.status == 501
    assert "serve one that has" in str(error)
    assert (health.state, health.infill) == ("ready", False)
