"""The engine's worker after a failed fill: memory is freed, and the next fill is as usual."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from midspan.engine.api import Budget, DeviceError, Hole
from midspan.engine.backends.process import NICE
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas
from midspan.engine.denoise import Denoiser
from midspan.engine.engine import Engine, load_infiller
from midspan.engine.infill import Infiller
from tests.engine.tiny import tiny_checkpoint

HOLE = Hole(prefix="def add(a, b):\n    retu", suffix="\n")
WAIT_S = 60


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = Engine.load(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))), "cpu")
    yield made
    made.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_the_editor_goes_first(engine: Engine) -> None:
    """The worker gives way, and with it the threads that it starts."""
    engine.fill(HOLE, Budget()).result(WAIT_S)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert engine._worker.native_id is not None
    assert os.getpriority(os.PRIO_PROCESS, engine._worker.native_id) == max(NICE, own)


def test_memory_of_a_failed_fill_is_free_when_its_error_is_reported(engine: Engine) -> None:
    infiller = engine._infiller
    assert isinstance(infiller, Infiller)
    before, plain, filled = (
        engine.fill(HOLE, Budget()).result(WAIT_S),
        infiller.backend.bind,
        list[weakref.ref[object]](),
    )

    def full(cache: Cache, canvas: Canvas) -> Denoiser:
        took = torch.empty(1000)
        filled.extend((weakref.ref(took), weakref.ref(cache)))
        raise torch.OutOfMemoryError("no memory")

    infiller.backend.bind = full  # type: ignore[method-assign]
    failed = engine.fill(HOLE, Budget()).exception(WAIT_S)
    infiller.backend.bind = plain  # type: ignore[method-assign]
    gc.collect()
    assert isinstance(failed, torch.OutOfMemoryError)
    assert len(filled) == 2 * 2
    assert not [one for one in filled if one() is not None]
    after = engine.fill(HOLE, Budget()).result(WAIT_S)
    assert after.candidates == before.candidates


def test_a_fill_out_of_memory_is_tried_again_without_the_kept_cache(engine: Engine) -> None:
    infiller = engine._infiller
    assert isinstance(infiller, Infiller)
    before, plain, kept = engine.fill(HOLE, Budget()).result(WAIT_S), infiller.backend.bind, infiller.prefix

    def full_at_first(cache: Cache, canvas: Canvas) -> Denoiser:
        if infiller.prefix is kept:
            raise torch.OutOfMemoryError("no memory")
        return plain(cache, canvas)

    infiller.backend.bind = full_at_first  # type: ignore[method-assign]
    again = engine.fill(HOLE, Budget()).result(WAIT_S)
    infiller.backend.bind = plain  # type: ignore[method-assign]
    assert again.candidates == before.candidates


def test_while_memory_stays_full_every_fill_fails_and_the_worker_lives(engine: Engine) -> None:
    """The error handling allocates no memory, because that could fail and end the thread."""
    infiller = engine._infiller
    assert isinstance(infiller, Infiller)
    make = infiller.backend.new_cache

    def none_left(expected: int = 512) -> Cache:
        raise torch.OutOfMemoryError("no memory")

    infiller.reset()
    infiller.backend.new_cache = none_left  # type: ignore[method-assign]
    try:
        for _ in range(3):
            assert isinstance(engine.fill(HOLE, Budget()).exception(WAIT_S), torch.OutOfMemoryError)
    finally:
        infiller.backend.new_cache = make  # type: ignore[method-assign]
    assert engine.fill(HOLE, Budget()).result(WAIT_S).candidates


def test_a_gpu_without_bf16_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tiny_checkpoint(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(DeviceError, match="Tesla T4 has no units for bf16; use --device cpu"):
        load_infiller(folder, "cuda")
    assert load_infiller(folder, "auto").backend.device.type == "cpu"
