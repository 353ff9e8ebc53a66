"""`midspan models` as a person runs it: in an empty home, and in one where other programs keep models."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from midspan.server.models.at_hand import AtHand, at_hand
from tests.server.models.gguf_bytes import WORDS, write

MIDSPAN = (sys.executable, "-m", "midspan.server")
IMAGE = "application/vnd.ollama.image."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, in this process and in those that it starts."""
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGINGFACE", "XDG_", "LLAMA_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("midspan.server.models.places.OLLAMA_SERVICE", tmp_path / "no service")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def midspan(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MIDSPAN, *words], capture_output=True, text=True, timeout=100)


def found(environment: dict[str, str] | None = None) -> AtHand:
    return at_hand(environment or {})


def names(hand: AtHand) -> list[tuple[str, str]]:
    return [(one.name, one.program) for one in hand.models]


def in_hub_cache(home: Path, repository: str, file: str, commit: str = "c0ffee", *, main: bool = True) -> Path:
    """A GGUF file in the hub's cache, as its own client lays it."""
    folder = home / ".cache" / "huggingface" / "hub" / f"models--{repository.replace('/', '--')}"
    blob = write(folder / "blobs" / f"new-{commit}", general__name=f"{repository} {commit}")
    blob = blob.rename(folder / "blobs" / hashlib.sha256(blob.read_bytes()).hexdigest())
    link = folder / "snapshots" / commit / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    if main:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(commit)
    return link


def in_ollama(home: Path, name: str, layers: list[dict[str, str]] | None = None) -> Path:
    """A model as Ollama keeps it; `layers` in place of those that name its file and its licence."""
    models = home / ".ollama" / "models"
    blob = write(models / "blobs" / "new", general__name=name)
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    blob = blob.rename(models / "blobs" / f"sha256-{digest}")
    (models / "blobs" / f"sha256-{'a' * 64}").write_text("\n\n          Apache License\n   Version 2.0\n")
    usual = [
        {"mediaType": f"{IMAGE}model", "digest": f"sha256:{digest}"},
        {"mediaType": f"{IMAGE}license", "digest": f"sha256:{'a' * 64}"},
    ]
    manifest = models / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": usual if layers is None else layers}))
    return blob


RESEARCH = "Qwen Research, non-commercial use only  92 languages"
EMPTY = """\
At hand:
  name      family           parameters  size  licence     languages  a fill  kept by
* embedded  diffusion_gemma  8 M         9 MB  Apache-2.0  python             midspan

To be fetched, with midspan models get NAME:
"""


def test_in_an_empty_home_there_is_the_embedded_model(home: Path) -> None:
    listed = midspan("models", "--no-estimate")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.startswith(EMPTY)
    (research,) = [line for line in listed.stdout.splitlines() if "qwen2.5-coder-3b" in line]
    assert research == "  qwen2.5-coder-3b    qwen2            3.4 B       2.1 GB   " + RESEARCH
    assert "In use (*): embedded, by the default\n" in listed.stdout
    assert list(home.iterdir()) == [], "nothing is written by looking"


def test_models_of_every_program_are_found(home: Path) -> None:
    in_hub_cache(home, "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf")
    in_hub_cache(home, "someone/Other-GGUF", "sub/other.gguf")
    write(home / ".cache" / "llama.cpp" / "granite.gguf", general__license="apache-2.0")
    (home / ".cache" / "llama.cpp" / "half.gguf.downloadInProgress").write_bytes(b"GGUF")
    in_ollama(home, "registry.ollama.ai/library/qwen2.5-coder/0.5b")
    in_ollama(home, "hf.co/someone/coder/latest")
    write(home / ".lmstudio" / "models" / "someone" / "coder" / "coder-q4.gguf", general__name="LM")
    assert names(found()) == [
        ("embedded", "midspan"),
        ("qwen2.5-coder-1.5b", "hub cache"),
        ("other", "hub cache"),
        ("granite", "llama.cpp"),
        ("hf.co/someone/coder:latest", "Ollama"),
        ("qwen2.5-coder:0.5b", "Ollama"),
        ("coder-q4", "LM Studio"),
    ]
    assert found().notes == ()
    assert {one.problem for one in found().models} == {None}
    licences = {one.name: one.licence for one in found().models}
    assert licences["qwen2.5-coder:0.5b"] == "Apache License"
    assert licences["granite"] == "apache-2.0"
    assert licences["coder-q4"] is None
    listed = midspan("models", "--no-estimate").stdout
    assert "  qwen2.5-coder:0.5b          qwen2            0 M         0 MB  Apache License" in listed
    assert "licence not stated" in listed


def test_variables_of_other_programs_are_followed(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "llama" / "one.gguf")
    in_ollama(tmp_path, "registry.ollama.ai/library/two/latest")
    in_hub_cache(tmp_path, "a/b", "three.gguf")
    hub = tmp_path / ".cache" / "huggingface"
    more = {"LLAMA_CACHE": str(tmp_path / "llama"), "OLLAMA_MODELS": str(tmp_path / ".ollama" / "models")}
    for variable in ({"HF_HOME": str(hub)}, {"HF_HUB_CACHE": str(hub / "hub")}, {"XDG_CACHE_HOME": str(hub.parent)}):
        assert [one[0] for one in names(found(more | variable))] == ["embedded", "three", "one", "two:latest"]


def test_a_file_that_two_places_share_is_listed_once(home: Path) -> None:
    file = write(home / ".cache" / "llama.cpp" / "one.gguf")
    link = home / ".lmstudio" / "models" / "x" / "y" / "one.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(file)
    assert names(found())[1:] == [("one", "llama.cpp")]


def test_the_revision_that_main_names_comes_first(home: Path) -> None:
    in_hub_cache(home, "a/b", "model.gguf", "000")
    newest = in_hub_cache(home, "a/b", "model.gguf", "111")
    in_hub_cache(home, "a/b", "model.gguf", "222", main=False)
    assert [one.checkpoint for one in found().models[1:]] == [str(newest)]


def test_a_folder_is_a_checkpoint_by_its_configuration(home: Path) -> None:
    snapshot = in_hub_cache(home, "a/b", "model.gguf").parent
    (snapshot / "config.json").write_text('{"model_type": "qwen2"}')
    assert names(found())[1:] == [("model", "hub cache")]
    (snapshot / "model.safetensors").write_text("")
    assert names(found())[1:] == [("a/b", "hub cache"), ("model", "hub cache")]
    (snapshot / "model.gguf").unlink()
    (snapshot / "model.safetensors").unlink()
    assert [(one.name, one.problem) for one in found().models[1:]] == [("a/b", "has no safetensors; fetch it again")]


@pytest.mark.parametrize(
    ("layers", "note"),
    [
        ([{"mediaType": f"{IMAGE}model", "digest": "sha256:../../../../../etc/passwd"}], "names no model's file"),
        ([{"mediaType": f"{IMAGE}model", "digest": f"sha256:{'b' * 64}"}], "is missing; run ollama pull again"),
        ([], "names no model's file"),
        ([{"digest": 3}], "no manifest of Ollama's (Expected"),
    ],
)
def test_a_manifest_that_names_no_file_is_a_note(home: Path, layers: list[dict[str, str]], note: str) -> None:
    in_ollama(home, "registry.ollama.ai/library/evil/latest", layers)
    hand = found()
    assert names(hand) == [("embedded", "midspan")]
    assert note in hand.notes[0]


@pytest.mark.parametrize("content", [b'{"layers": [{"digest": "\xff"}]}', b'{"x": ' + b"[" * 50_000, b"[]"])
def test_a_manifest_that_cannot_be_read_is_a_note(home: Path, content: bytes) -> None:
    in_ollama(home, "registry.ollama.ai/library/evil/latest")
    (home / ".ollama/models/manifests/registry.ollama.ai/library/evil/latest").write_bytes(content)
    hand = found()
    assert names(hand) == [("embedded", "midspan")]
    assert "/evil/latest: no manifest of Ollama's (" in hand.notes[0]


def test_links_that_lead_round_and_folders_without_end(home: Path) -> None:
    models = home / ".lmstudio" / "models"
    write(models / "a" / "one.gguf")
    (models / "a" / "round").symlink_to(models)
    (models / "self.gguf").symlink_to("self.gguf")
    (models / "gone.gguf").symlink_to("nowhere")
    os.mkfifo(models / "pipe.gguf")
    write(models / "1/2/3/4/5/6/7/deep.gguf")
    assert names(found())[1:] == [("one", "LM Studio")]


def test_a_folder_of_too_many_files_is_a_note(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midspan.server.models.walk.MOST_FILES", 3)
    for number in range(5):
        write(home / ".cache" / "llama.cpp" / f"{number}.gguf", general__name=str(number))
    hand = found()
    assert len(hand.models) == 4
    assert hand.notes == (f"{home}/.cache/llama.cpp: has more than 3 files; the others are not listed",)


@pytest.fixture
def closed(home: Path) -> Iterator[Path]:
    """A folder that may not be looked into, but by root."""
    folder = home / ".cache" / "llama.cpp"
    write(folder / "one.gguf")
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_a_folder_that_may_not_be_looked_into_is_a_note(closed: Path) -> None:
    may = os.access(closed, os.R_OK)
    hand = found()
    assert hand.notes == (() if may else (f"{closed}: Permission denied; not looked into",))


def test_a_file_where_a_folder_should_be_is_a_note(home: Path) -> None:
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "hub").write_text("")
    (home / ".cache" / "llama.cpp").write_text("")
    assert found().notes == (
        f"{home}/.cache/huggingface/hub: Not a directory; not looked into",
        f"{home}/.cache/llama.cpp: Not a directory; not looked into",
    )


def test_two_hundred_files_are_listed_in_three_seconds(home: Path) -> None:
    for number in range(200):
        tokens = [f"token{one}" for one in range(1000)]
        write(home / ".lmstudio" / "models" / f"{number}.gguf", rows=64 + number, tokenizer__ggml__tokens=tokens)
    began = time.process_time()
    hand = found()
    assert time.process_time() - began < 3.0
    assert len(hand.models) == 201


def test_what_there_is_no_time_for_is_listed_without_its_headers(home: Path) -> None:
    write(home / ".cache" / "llama.cpp" / "one.gguf")
    write(home / ".cache" / "llama.cpp" / "two.gguf", general__name="another")
    times = iter((0.0, 0.5, 1.0, 9.0))
    hand = at_hand({}, lambda: next(times))
    assert [one.glance is not None for one in hand.models] == [True, True, False]
    assert hand.notes == ("1 models were not looked into, as there are many; midspan doctor --checkpoint tries one",)


def test_names_cannot_write_on_the_terminal(home: Path) -> None:
    evil = "\x1b[2J\nevil"
    write(home / ".cache" / "llama.cpp" / f"{evil}.gguf", general__license=evil, general__architecture=evil)
    (home / ".cache" / "llama.cpp" / os.fsdecode(b"\xff.gguf")).write_bytes(b"")
    listed = midspan("models", "--no-estimate")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "\x1b" not in listed.stdout
    assert "  ?[2J?evil (llama.cpp): family " in listed.stdout
    write(home / ".cache" / "llama.cpp" / os.fsdecode(b"\xfe.gguf"), general__name="in no encoding")
    refused = midspan("models", "use", os.fsdecode(b"\xfe"))
    assert refused.returncode == 1
    assert refused.stderr == f"midspan: {home}/.cache/llama.cpp/?.gguf: its name is not in UTF-8; give it another\n"
    assert json.loads(midspan("models", "--no-estimate", "--json").stdout)["at_hand"][1]["problem"]


def test_what_does_not_run_is_listed_with_its_reason(home: Path) -> None:
    write(home / ".cache" / "llama.cpp" / "chat.gguf", tokenizer__ggml__tokens=list(WORDS))
    write(home / ".cache" / "llama.cpp" / "gemma.gguf", general__architecture="gemma3")
    listed = midspan("models", "--no-estimate").stdout
    expected = [
        "At hand, but midspan does not run them:",
        "  chat (llama.cpp): has no fill-in-the-middle tokens",
        '  gemma (llama.cpp): family "gemma3" is not one of llama, qwen2, qwen3',
    ]
    assert "\n".join(expected) in listed
    refused = midspan("models", "use", "chat")
    assert refused.returncode == 1
    assert refused.stderr == ("midspan: chat: has no fill-in-the-middle tokens; midspan models lists those that run\n")


def test_nothing_but_get_needs_the_hub_or_torch(home: Path) -> None:
    code = """
import sys
from midspan.server.cli import main
main(["models", "--no-estimate", "--json"])
print({"torch", "huggingface_hub", "tokenizers"} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"
