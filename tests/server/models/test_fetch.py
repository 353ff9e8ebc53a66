"""`midspan models get` against a hub on this machine, through the hub's real client and over real HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from midspan.server.models.catalogue import catalogue
from tests.server.models.gguf_bytes import write
from tests.server.models.hub_server import COMMIT, Hub, running

MODEL = catalogue()["qwen2.5-coder-1.5b"]
MIDSPAN = (sys.executable, "-m", "midspan.server")
SNAPSHOT = f"models--{MODEL.repository.replace('/', '--')}/snapshots/{COMMIT}"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with the model, some 24 MB of it: the client writes ten at a time."""
    data = write(tmp_path / "published.gguf", rows=64_000).read_bytes()
    with running(
        Hub(MODEL.repository, {str(MODEL.file): data, "setup.py": b"raise SystemExit", "a.json": b"{}"})
    ) as one:
        yield one


def environment(hub: Hub, home: Path) -> dict[str, str]:
    kept = {name: one for name, one in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE", "XDG_"))}
    return {**kept, "HOME": str(home), "NO_PROXY": "127.0.0.1", **hub.environment(home)}


def models(hub: Hub, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*MIDSPAN, "models", *words]
    return subprocess.run(command, env=environment(hub, home), capture_output=True, text=True, timeout=100)


def cached(home: Path) -> list[str]:
    """The files in the cache but for the client's own notes."""
    folder = home / "hf" / "hub"
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in names if "models--" in name and not name.startswith(".locks") and "refs" not in name)


def test_a_model_is_fetched_taken_and_removed(hub: Hub, tmp_path: Path) -> None:
    got = models(hub, tmp_path, "get", MODEL.name)
    assert got.returncode == 0, got.stderr
    file = tmp_path / "hf" / "hub" / SNAPSHOT / str(MODEL.file)
    assert file.read_bytes() == hub.files[str(MODEL.file)]
    assert got.stdout == f"{MODEL.name} is at hand now, in {file}; take it with: midspan models use {MODEL.name}\n"
    assert f"{MODEL.name} from {MODEL.repository}; licence: Apache-2.0\n" in got.stderr
    # Nothing but the model: no program that lies beside it.
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    owner = SNAPSHOT.partition("/")[0]
    assert cached(tmp_path) == [f"{owner}/blobs/{digest}", f"{SNAPSHOT}/{MODEL.file}"]
    listed = json.loads(models(hub, tmp_path, "--json", "--no-estimate").stdout)
    (found,) = [one for one in listed["at_hand"] if one["name"] == MODEL.name]
    assert (found["program"], found["licence"], found["problem"]) == ("hub cache", "Apache-2.0", None)
    asked = len(hub.asked)
    assert models(hub, tmp_path, "get", MODEL.name).stdout.startswith(f"{MODEL.name} is at hand; take it")
    assert models(hub, tmp_path, "use", MODEL.name).returncode == 0
    removed = models(hub, tmp_path, "remove", MODEL.name)
    assert removed.stdout.splitlines() == [
        f"{MODEL.name} is removed, 25 MB are free",
        "it was in use; embedded is taken from now on, by the default",
    ]
    assert cached(tmp_path) == []
    assert len(hub.asked) == asked, "what is at hand needs no hub"


def test_what_was_interrupted_goes_on(hub: Hub, tmp_path: Path) -> None:
    whole = len(hub.files[str(MODEL.file)])
    hub.stop_after = 22_000_000
    command = [*MIDSPAN, "models", "get", MODEL.name]
    process = subprocess.Popen(command, env=environment(hub, tmp_path), stderr=subprocess.PIPE, text=True)
    try:
        assert hub.stopped.wait(60)
        # The client writes ten million bytes at a time.
        begun = next(iter(tmp_path.glob("hf/hub/*/blobs/*.incomplete")))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
        assert process.stderr is not None
        process.stderr.close()
    there = begun.stat().st_size
    assert 10_000_000 <= there < whole
    hub.stop_after = None
    got = models(hub, tmp_path, "get", MODEL.name)
    assert got.returncode == 0, got.stderr
    assert "of which" in got.stderr
    assert [one[2] for one in hub.asked if one[0] == "GET" and one[2]] == [f"bytes={there}-"]
    assert (tmp_path / "hf" / "hub" / SNAPSHOT / str(MODEL.file)).read_bytes() == hub.files[str(MODEL.file)]


def test_another_file_than_was_promised_is_removed(hub: Hub, tmp_path: Path) -> None:
    hub.sends[str(MODEL.file)] = bytes(len(hub.files[str(MODEL.file)]))
    got = models(hub, tmp_path, "get", MODEL.name)
    assert got.returncode == 1
    assert got.stderr.splitlines()[-1].endswith("; it was removed, run this again")
    assert cached(tmp_path) == []


def test_a_file_that_is_replaced_while_it_is_fetched_is_not_taken(hub: Hub, tmp_path: Path) -> None:
    """Its sha256 was not compared with what the hub had said."""
    hub.newer[str(MODEL.file)] = b"another"
    got = models(hub, tmp_path, "get", MODEL.name)
    assert got.returncode == 1
    assert got.stderr.endswith(f"{MODEL.name}: the hub's {MODEL.file} was replaced meanwhile; run this again\n")
    assert not (tmp_path / "hf" / "hub" / SNAPSHOT / str(MODEL.file)).exists()


def test_a_model_whose_checksum_midspan_knows_must_have_that(hub: Hub, tmp_path: Path) -> None:
    known = catalogue()["qwen2.5-coder-0.5b"]
    assert known.sha256 is not None
    hub.repository, hub.files = known.repository, {str(known.file): b"another"}
    got = models(hub, tmp_path, "get", known.name)
    assert got.returncode == 1
    assert got.stderr.splitlines()[-1] == (
        f"midspan: {known.name}: the hub's {known.file} is not the file that this midspan knows; upgrade midspan"
    )
    assert [path for method, path, _ in hub.asked if method == "GET"] == [f"/api/models/{known.repository}"]


FULL = """
import sys
from pathlib import Path
from midspan.server.commands.errors import CommandError
from midspan.server.models.catalogue import catalogue
from midspan.server.models.fetch import fetch
try:
    fetch(catalogue()[sys.argv[1]], Path(sys.argv[2]), print, lambda folder: 1_000_000_000)
except CommandError as error:
    print(error)
"""


def test_a_full_disk_is_seen_before_anything_is_fetched(hub: Hub, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, MODEL.name, str(tmp_path)]
    ran = subprocess.run(
        command, env=environment(hub, tmp_path), capture_output=True, text=True, timeout=100, check=True
    )
    fix = "free some or set HF_HOME to a folder on another disk"
    assert ran.stdout == f"{MODEL.name}: {tmp_path} needs 1.0 GB of free space and has 1.0 GB; {fix}\n"
    assert not any("resolve" in path for _, path, _ in hub.asked)


def test_without_a_hub_one_line_says_so(hub: Hub, tmp_path: Path) -> None:
    hub.url = "http://127.0.0.1:9"
    got = models(hub, tmp_path, "get", MODEL.name)
    assert (got.returncode, got.stdout) == (1, "")
    assert got.stderr.splitlines()[-1].startswith(f"midspan: {MODEL.name}: the hub cannot be reached (")
    assert "Traceback" not in got.stderr
    listed = models(hub, tmp_path, "--no-estimate")
    assert (listed.returncode, listed.stderr) == (0, "")


def test_a_hub_that_must_not_be_asked_is_not(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "environment", lambda self, home: {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": self.url})
    got = models(hub, tmp_path, "get", MODEL.name)
    assert got.returncode == 1
    last = f"midspan: {MODEL.name}: HF_HUB_OFFLINE is set, so nothing is fetched; unset it"
    assert got.stderr.splitlines()[-1] == last
    assert hub.asked == []


def test_without_the_hubs_client_one_line_says_so(tmp_path: Path) -> None:
    script = f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "huggingface_hub" else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from midspan.server.cli import main
sys.exit(main(["models", "get", {MODEL.name!r}]))
"""
    environment = {**os.environ, "HOME": str(tmp_path), "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", script]
    got = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert got.returncode == 1
    said = "midspan: huggingface_hub is not installed; run python -m pip install huggingface-hub\n"
    assert got.stderr == said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("refuse", 404, "the hub answers 404 Not Found; look at"),
        ("refuse", 500, "the hub answers 500 Internal"),
        ("answer", b"<html>sign in</html>", "what answers is not the hub ("),
        ("answer", b'{"id": "x", "sha": "y"}', "has no file"),
        ("files", {}, "has no file"),
        ("files", {f"../../{MODEL.file}": b"x"}, "has no file"),
    ],
)
def test_what_a_hub_says_wrong_is_one_line(hub: Hub, tmp_path: Path, name: str, value: object, said: str) -> None:
    setattr(hub, name, value)
    got = models(hub, tmp_path, "get", MODEL.name)
    assert (got.returncode, got.stdout) == (1, "")
    assert said in got.stderr.splitlines()[-1]
    assert "Traceback" not in got.stderr


def test_a_hub_without_checksums_is_not_believed(hub: Hub, tmp_path: Path) -> None:
    info = hub.info()
    assert isinstance(info["siblings"], list)
    for one in info["siblings"]:
        one.pop("lfs", None)
    hub.answer = json.dumps(info).encode()
    got = models(hub, tmp_path, "get", MODEL.name)
    assert got.returncode == 1
    assert f"the hub states no sha256 of {MODEL.file}, so nothing is fetched" in got.stderr


def test_a_checkpoint_folder_is_fetched_without_programs(hub: Hub, tmp_path: Path) -> None:
    model = catalogue()["diffusiongemma"]
    hub.repository = model.repository
    hub.files = {
        "config.json": b'{"model_type": "diffusion_gemma"}',
        "model.safetensors": b"x",
        "run.py": b"",
        "a.bin": b"",
    }
    got = models(hub, tmp_path, "get", model.name)
    # What came is no checkpoint, and that is said.
    assert got.returncode == 1
    assert "not a whole safetensors file" in got.stderr.splitlines()[-1]
    names = {Path(name).name for name in cached(tmp_path) if "snapshots" in name}
    assert names == {"config.json", "model.safetensors"}


def test_a_name_that_is_not_known(hub: Hub, tmp_path: Path) -> None:
    got = models(hub, tmp_path, "get", "../../etc/passwd")
    assert (got.returncode, got.stdout) == (1, "")
    assert (
        got.stderr
        == f"midspan: ../../etc/passwd: not known; midspan models get fetches one of {', '.join(catalogue())}\n"
    )
    assert hub.asked == []
