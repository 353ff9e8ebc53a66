"""How fast networks are here, in about two seconds: to say about a model that is not loaded how long a fill would take.

On a CPU a small network of the `llama` family is timed over the same code as a real one. A step's time grows with the
bytes of weights that it reads, a long prompt's with its products, so that both scale with the number of parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from midspan.engine.api import Budget, Hole, Speed
from midspan.engine.backends.backend import Backend
from midspan.engine.backends.choose import causal_of
from midspan.engine.engine import Engine
from midspan.engine.llama import LlamaConfig

# Four layers of Qwen2.5-Coder-0.5B: 60 MB in int8, more than most caches hold, and packed within a second.
LAYERS = {"num_hidden_layers": 4, "vocab_size": 1024, "tie_word_embeddings": True, "max_position_embeddings": 2048}
WIDTHS = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}
BEFORE, ROWS = 64, 40
# The shortest of these times counts: what else runs on the machine makes any of them longer.
LEAST_TIMES, PATIENCE_S = 3, 0.5
HOLE = Hole(prefix="def add(a, b):\n    return ", suffix="\n\n\nprint(add(1, 2))\n")


def speed(device: str = "auto") -> Speed:
    """Measure it on `auto`, `cpu` or `cuda`. Raises DeviceError or CheckpointError."""
    engine = Engine.load("embedded", device)
    try:
        embedded = shortest(lambda: engine.fill(HOLE, Budget()).result())
    finally:
        engine.close()
    if engine.about.device != "cpu":
        name, bytes_ = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        return Speed(embedded_ms=1000 * embedded, gpu=name, gpu_bytes=bytes_)
    config = LlamaConfig.from_json({"model_type": "qwen2", "rms_norm_eps": 1e-6, **LAYERS, **WIDTHS})
    backend = causal_of(config, torch.device("cpu"))
    parameters = backend.describe().parameters - config.vocab_size * config.hidden_size
    token, rows = (_seconds(backend, count) / parameters for count in (1, ROWS))
    return Speed(embedded_ms=1000 * embedded, token=token, row=rows / ROWS)


@torch.inference_mode()
def _seconds(backend: Backend, rows: int) -> float:
    """The time to read so many rows behind a short text."""
    ids, before = torch.zeros(1, rows, dtype=torch.long), torch.zeros(1, BEFORE, dtype=torch.long)
    cache = backend.new_cache(BEFORE + rows)
    backend.prefill(before, cache)

    def read() -> None:
        backend.prefill(ids, cache)
        cache.truncate(BEFORE)

    return shortest(read)


def shortest(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the shortest of several runs."""
    times, until = list[float](), clock() + PATIENCE_S
    while len(times) < LEAST_TIMES or clock() < until:
        began = clock()
        run()
        times.append(clock() - began)
    return min(times)
