"""A cache whose buffers outlive fills gives the same results as a new cache."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.cache import Cache
from midspan.engine.model import DiffusionGemma
from tests.engine.tiny import config_json, random_model
from tests.examples import examples

VOCAB = 64


def ids(rows: int, count: int, seed: int) -> torch.Tensor:
    return torch.randint(4, VOCAB, (rows, count), generator=torch.Generator().manual_seed(seed))


def fresh(model: DiffusionGemma, text: torch.Tensor) -> Cache:
    cache = TorchCanvasBackend(model).new_cache(4)
    TorchCanvasBackend(model).prefill(text, cache)
    return cache


@examples(15)
@given(
    edits=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(1, 5), st.integers(1, 9)), max_size=4)
)
def test_a_cache_after_edits_gives_the_results_of_a_new_one(edits: list[tuple[int, int, int, int]]) -> None:
    """Each edit keeps some tokens, types some, and then denoises and scores a batch of canvases of some width."""
    model, text = random_model(config_json(VOCAB)), ids(1, 10, 0)
    with torch.inference_mode():
        lived = fresh(model, text)
        for number, (kept, typed, batch, width) in enumerate(edits):
            kept = min(kept, text.shape[1])
            text = torch.cat((text[:, :kept], ids(1, typed, number)), dim=1)
            lived.truncate(kept)
            TorchCanvasBackend(model).prefill(text[:, kept:], lived)
            canvas = ids(batch, width, 99 + number)
            expected = TorchCanvasBackend(model).denoise(canvas, fresh(model, text))
            torch.testing.assert_close(TorchCanvasBackend(model).denoise(canvas, lived), expected, atol=1e-5, rtol=1e-5)
            expected, _ = TorchCanvasBackend(model).score(canvas.tolist(), fresh(model, text))
            torch.testing.assert_close(
                TorchCanvasBackend(model).score(canvas.tolist(), lived)[0], expected, atol=1e-5, rtol=1e-5
            )


def test_one_more_canvas_needs_no_new_buffer() -> None:
    """Buffers are made for several canvases at once: growing by one at a time would fragment the heap."""
    model = random_model(config_json(VOCAB))
    with torch.inference_mode():
        cache = fresh(model, ids(1, 10, 0))
        sizes = []
        for batch in (5, 6, 8, 3, 9):
            TorchCanvasBackend(model).score(ids(batch, 4, 1).tolist(), cache)
            keys, _ = cache.canvases.put(0, 0, 4, *[torch.zeros(1, 2, 1, 8)] * 2)
            sizes.append(keys.untyped_storage().nbytes())
    assert len(set(sizes[:4])) == 1
    assert sizes[4] > sizes[0]


def test_frozen_rows_keep_the_keys_and_values_of_the_last_call() -> None:
    model, canvas = random_model(config_json(VOCAB)), ids(3, 12, 1)
    with torch.inference_mode():
        cache = fresh(model, ids(1, 10, 0))
        whole = TorchCanvasBackend(model).denoise(canvas, cache)
        again = TorchCanvasBackend(model).denoise(canvas[:, :7], cache, frozen_rows=5)
        torch.testing.assert_close(again, whole[:, :7], atol=1e-5, rtol=1e-5)
        changed = ids(3, 7, 2)
        first = TorchCanvasBackend(model).denoise(changed, cache, frozen_rows=5)
        # The frozen rows' keys did not follow the change: the same call gives the same rows, a full pass other ones.
        assert torch.equal(TorchCanvasBackend(model).denoise(changed, cache, frozen_rows=5), first)
        full = TorchCanvasBackend(model).denoise(torch.cat((changed, canvas[:, 7:]), dim=1), cache)[:, :7]
        assert float((first - full).abs().max()) > 1e-4


def test_kept_canvases_keep_the_keys_and_values_of_the_last_step() -> None:
    model, canvas, changed = random_model(config_json(VOCAB)), ids(5, 12, 1), ids(5, 7, 2)
    rows = torch.tensor([1, 3, 4])
    with torch.inference_mode():
        cache = fresh(model, ids(1, 10, 0))
        TorchCanvasBackend(model).denoise(canvas, cache)
        expected = TorchCanvasBackend(model).denoise(changed, cache, frozen_rows=5)[rows]
        TorchCanvasBackend(model).denoise(canvas, cache)
        cache.canvases.keep(rows, 12)
        torch.testing.assert_close(
            TorchCanvasBackend(model).denoise(changed[rows], cache, frozen_rows=5), expected, atol=1e-5, rtol=1e-5
        )
