"""A glance at files and folders: what their headers say, why they would not run, and all of it without torch."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import midspan.engine
from midspan.engine.api import CheckpointError
from midspan.engine.engine import load_path
from midspan.engine.weights.glance import gguf_file, glance
from tests.engine.llama_tiny import marked_checkpoint, write_checkpoint
from tests.engine.tiny import tiny_checkpoint
from tests.engine.weights.test_gguf import write_gguf
from tests.server.models.gguf_bytes import QWEN_MARKS, WORDS, header, write

EMBEDDED = Path(midspan.engine.__file__).parent / "checkpoints" / "embedded"


def safetensors(axis: str) -> str:
    """A file of a header alone, whose one tensor has an axis so long."""
    header = f'{{"a": {{"dtype": "F32", "shape": [{axis}], "data_offsets": [0, 0]}}}}'
    return struct.pack("<Q", len(header)).decode() + header


def test_a_gguf_file_that_loads_is_described(tmp_path: Path) -> None:
    file = write_gguf(tmp_path)
    found, network = glance(file), load_path(str(file), "cpu").backend.describe()
    assert (found.family, found.problem, found.layout, found.languages) == ("llama", None, "marks", ("python", "go"))
    assert (found.parameters, found.bytes) == (network.parameters, file.stat().st_size)
    assert found.parameters - found.in_layers - found.in_head == 32  # the last norm


@pytest.mark.parametrize("write_folder", [marked_checkpoint, tiny_checkpoint], ids=["llama", "canvas"])
def test_a_folder_that_loads_is_described(tmp_path: Path, write_folder: Any) -> None:
    (tmp_path / "model").mkdir()
    folder = write_folder(tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags:\n- code\n---\n# A model\n")
    found, network = glance(folder), load_path(str(folder), "cpu").backend.describe()
    assert (found.licence, found.problem) == ("apache-2.0", None)
    assert 0.9 < found.parameters / network.parameters <= 1.1


def test_the_embedded_model_is_described() -> None:
    found = glance(EMBEDDED)
    assert (found.family, found.layout, found.languages) == ("diffusion_gemma", "filler", ("python",))
    assert 8_300_000 < found.parameters < 8_400_000


def test_licence_and_name_stand_in_the_metadata(tmp_path: Path) -> None:
    found = glance(write(tmp_path / "a.gguf", general__license="apache-2.0", general__name="Tiny\nCoder"))
    assert (found.licence, found.name, found.problem) == ("apache-2.0", "Tiny Coder", None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"general__architecture": "gemma3"}, 'family "gemma3" is not one of llama, qwen2, qwen3'),
        ({"tokenizer__ggml__tokens": list(WORDS)}, "has no fill-in-the-middle tokens"),
        ({"tokenizer__ggml__tokens": [*WORDS, *QWEN_MARKS[:2]]}, "has no fill-in-the-middle tokens"),
        ({"tokenizer__ggml__pre": "tekken"}, 'its tokenizer is "gpt2" with splits "tekken", which is not read from'),
        # What should be a text is a list, and the other way about; an adapter has no tokens at all.
        ({"tokenizer__ggml__tokens": 3}, "has no vocabulary, as an adapter has none; take the whole model"),
        ({"tokenizer__ggml__model": ["a", "b"]}, "its tokenizer is a list of 2 with splits"),
        ({"general__alignment": ["a"]}, "not a whole GGUF file, as general.alignment is a list of 1"),
        ({"general__architecture": 3}, 'family "" is not one of'),
        ({"split__count": 3}, "one of 3 parts of a model; join them with llama-gguf-split --merge"),
        ({"cut": 40}, 'not a whole GGUF file, as tensor "blk.1.ffn_up.weight" ends behind the file'),
        ({"cut": 24_500}, 'not a whole GGUF file, as tensor "token_embd.weight" has shape [64, 32], more than'),
        ({"cut": 26_400}, "not a whole GGUF file, as it ends within its header"),
        # What a family is comes first: the rest of such a file may well be unknown.
        ({"general__architecture": "mamba", "cut": 40}, 'family "mamba" is not one of'),
    ],
)
def test_why_a_gguf_file_does_not_run(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    file = write(tmp_path / "a.gguf", **changes)
    found = glance(file)
    assert found.problem is not None
    assert found.problem.startswith(problem)
    with pytest.raises(CheckpointError):
        load_path(str(file), "cpu")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "adapter.gguf"
    named = {"general.architecture": "llama", "general.type": "adapter"}
    front = header(named, {"blk.0.attn_q.weight.lora_a": (32, 64)})
    file.write_bytes(front + bytes(-len(front) % 32 + 4 * 32 * 64))
    assert glance(file).problem == "has no vocabulary, as an adapter has none; take the whole model"


def test_a_pointer_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 491400064\n")
    assert glance(tmp_path / "a.gguf").problem == "has 72 bytes only, which is no model; fetch it again"


def test_settings_beside_a_file_count(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf", tokenizer__ggml__tokens=[*WORDS, "<P>", "<S>", "<M>", "<E>"])
    assert glance(file).problem == "has no fill-in-the-middle tokens"
    marks = {"prefix": "<P>", "suffix": "<S>", "middle": "<M>", "ends": ["<E>"]}
    settings = {"layout": {"marks": marks}, "show": {"languages": ["rust"]}}
    (tmp_path / "a.gguf.midspan.json").write_text(json.dumps(settings))
    assert (glance(file).problem, glance(file).languages) == (None, ("rust",))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("config.json", '{"model_type": "bert"}', 'family "bert" is not one of'),
        ("config.json", "{}", 'family "" is not one of'),
        ("config.json", "[", "not valid JSON"),
        ("model.safetensors", "", "not a whole safetensors file"),
        ("model.safetensors", "\xff" * 90, "not a whole safetensors file"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "gone.safetensors"}}', "1 of 1 files of weights are"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ["model.safetensors"]}}', "names no file beside it"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../model.safetensors"}}', "names no file beside it"),
        ("model.safetensors", safetensors("1e999"), "whole"),
        ("model.safetensors", safetensors("9e300"), "whole"),
        ("tokenizer.json", "{}", "has no fill-in-the-middle tokens"),
        ("midspan.json", '{"layout": {"kind": "none"}}', "layout.kind is"),
    ],
)
def test_why_a_folder_does_not_run(tmp_path: Path, name: str, content: str, problem: str) -> None:
    folder = write_checkpoint(tmp_path / "model", model_type="qwen2")
    (folder / name).write_text(content)
    found = glance(folder)
    assert found.problem is not None
    assert problem in found.problem


def test_what_is_not_there_or_may_not_be_read_is_a_line(tmp_path: Path) -> None:
    assert glance(tmp_path / "none.gguf").problem == "No such file or directory; make it readable"
    (tmp_path / "empty").mkdir()
    assert str(glance(tmp_path / "empty").problem).endswith("restore it from the checkpoint's source")


def test_a_file_without_the_usual_name_is_known_by_its_beginning(tmp_path: Path) -> None:
    file = write_gguf(tmp_path)
    blob = file.rename(tmp_path / "sha256-0123")
    (tmp_path / "tiny.gguf.midspan.json").rename(tmp_path / "sha256-0123.midspan.json")
    assert gguf_file(str(blob)) == blob
    assert load_path(str(blob), "cpu").backend.describe().parameters > 0
    assert gguf_file(str(tmp_path)) is None
    assert gguf_file(str(tmp_path / "config.json")) is None
    assert gguf_file("~nobody-at-all/model") is None
    assert gguf_file("\0") is None


@given(at=st.integers(0, 8000), value=st.binary(min_size=1, max_size=8), cut=st.integers(0, 26_000))
def test_no_damage_raises(tmp_path_factory: pytest.TempPathFactory, at: int, value: bytes, cut: int) -> None:
    file = write(tmp_path_factory.mktemp("hostile") / "a.gguf", cut=cut)
    data = bytearray(file.read_bytes())
    data[at : at + len(value)] = value
    file.write_bytes(data)
    assert glance(file).problem is None or "\n" not in str(glance(file).problem)


def test_a_vocabulary_of_a_usual_size_takes_no_time(tmp_path: Path) -> None:
    """What takes 2 s when every text is read is stepped over; a busy machine may take ten times the usual 50 ms."""
    tokens = [f"token{number}" for number in range(150_000)]
    file = write(tmp_path / "a.gguf", tokenizer__ggml__tokens=[*tokens, *QWEN_MARKS])
    began = time.process_time()
    assert glance(file).problem is None
    assert time.process_time() - began < 0.5


def test_a_glance_needs_no_torch(tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf")
    code = f"""
import sys
from pathlib import Path
import midspan.engine
found = [midspan.engine.glance(Path(one)) for one in ({str(file)!r}, {str(EMBEDDED)!r})]
print([one.problem for one in found], {{"torch", "tokenizers", "huggingface_hub"}} & set(sys.modules))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "[None, None] set()\n"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert gguf_file(str(tmp_path / "pipe")) is None
