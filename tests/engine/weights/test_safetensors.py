"""Weights are read shard by shard: one file is open at a time, and few tensors are in memory at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.weights import safetensors as stored
from midspan.engine.weights.load import load_weights, read_config
from tests.engine.chatting import chat_checkpoint
from tests.engine.weights.test_quantized import CPU, Tensors, fp8, one_by_one, stored_as


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the release, in float32."""
    return chat_checkpoint(tmp_path_factory.mktemp("plain"))


class Watched:
    """safetensors' safe_open, which counts the files that are open and the tensors that are held at once."""

    open_now = most_open = most_held = 0
    order: list[str]
    held: list[weakref.ref[torch.Tensor]]

    def __init__(self, file: Path, framework: str) -> None:
        self._name, self._real = file.name, self._open(file, framework)

    @staticmethod
    def _open(file: Path, framework: str) -> Any:
        return safe_open(file, framework=framework)

    def __enter__(self) -> Watched:
        self._tensors = self._real.__enter__()
        Watched.open_now += 1
        Watched.most_open = max(Watched.most_open, Watched.open_now)
        return self

    def __exit__(self, *error: Any) -> None:
        Watched.open_now -= 1
        self._real.__exit__(*error)

    def keys(self) -> list[str]:
        names: list[str] = self._tensors.keys()
        return names

    def get_slice(self, name: str) -> Any:
        return self._tensors.get_slice(name)

    def get_tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._tensors.get_tensor(name)
        Watched.held = [*(ref for ref in Watched.held if ref() is not None), weakref.ref(tensor)]
        Watched.most_held = max(Watched.most_held, len(Watched.held))
        if self._name not in Watched.order:
            Watched.order.append(self._name)
        return tensor


@pytest.mark.parametrize(("change", "most"), [(one_by_one, 2), (fp8, 40)])
def test_weights_are_streamed_one_file_at_a_time(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensors], Tensors], most: int
) -> None:
    """A tensor is released when the next one is read, unless it waits for its scale in the next file."""
    folder = stored_as(plain, tmp_path / "many", change, shards=6)
    monkeypatch.setattr(stored, "safe_open", Watched)
    Watched.open_now = Watched.most_open = Watched.most_held = 0
    Watched.order, Watched.held = [], []
    seen = list[tuple[int, int]]()
    with torch.device("meta"):
        model = DiffusionGemma(ModelConfig.from_json(read_config(folder)))
    load_weights(model, folder, torch.float32, CPU, progress=lambda done, total: seen.append((done, total)))
    assert Watched.most_open == 1
    assert Watched.order == sorted(file.name for file in folder.glob("*.safetensors"))
    # At most the tensors of two of six files are in memory at once: a third of all.
    tensors = len(stored.catalogue(folder))
    assert Watched.most_held <= min(most, tensors // 3)
    bytes = [tensor.nbytes for file in folder.glob("*.safetensors") for tensor in load_file(file).values()]
    assert {total for _, total in seen} == {sum(bytes)}
    done = [0, *(done for done, _ in seen)]
    assert sorted(after - before for before, after in pairwise(done)) == sorted(bytes)
