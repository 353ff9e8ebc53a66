"""From the folder of a `llama`, `qwen2` or `qwen3` checkpoint to what fills holes with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from midspan.engine.api import CheckpointError, ContextBudget, OnProgress
from midspan.engine.backends.backend import Backend
from midspan.engine.backends.choose import load_causal, load_causal_gguf
from midspan.engine.left_to_right import CHUNK_TOKENS, LeftToRight
from midspan.engine.llama import LlamaConfig
from midspan.engine.marks_settings import MarksSettings, read_marks_settings
from midspan.engine.prompts.calibrations import fitted_for, with_fitted
from midspan.engine.prompts.gguf_tokenizer import gguf_tokenizer
from midspan.engine.prompts.marks import MarksPrompt
from midspan.engine.prompts.tokenizer_json import tokenizer_of
from midspan.engine.weights.gguf_file import GgufFile
from midspan.engine.weights.load_gguf import gguf_config
from midspan.engine.weights.midspan_json import NAME

log = logging.getLogger(__name__)

# A prompt's chunk is read so often, the last time begun within so many seconds, and the shortest time counts.
MOST_READS, PATIENCE_S = 3, 0.5


def load_left_to_right(
    folder: Path, found: Mapping[str, Any], place: torch.device, progress: OnProgress | None = None
) -> LeftToRight:
    """A checkpoint's backend and prompt rules; `found` is its config.json.

    Raises CheckpointError, DeviceError, or torch.OutOfMemoryError of a GPU.
    """
    config = LlamaConfig.from_json(found, str(folder / "config.json"))
    settings = read_marks_settings(folder / NAME)
    _check_room(folder / NAME, settings, config)
    prompt = MarksPrompt.open(folder, settings.layout, config.vocab_size)
    backend = load_causal(folder, config, place, progress)
    path = _path(backend, prompt, settings, config)
    _try_out(path, folder)
    _measure_context(path)
    log.info("%s: layout marks, %s ... %s", folder, prompt.marks.prefix, prompt.marks.middle)
    return path


def load_gguf_file(file: Path, place: torch.device, progress: OnProgress | None = None) -> LeftToRight:
    """What fills holes with a GGUF file; its settings, where it has any, are in `FILE.midspan.json` beside it.

    Raises CheckpointError, DeviceError, or torch.OutOfMemoryError of a GPU.
    """
    found, beside = GgufFile(file), file.with_name(f"{file.name}.{NAME}")
    config, settings = gguf_config(found), read_marks_settings(beside)
    _check_room(beside, settings, config)
    tokenizer = tokenizer_of(gguf_tokenizer(found.metadata, file), file)
    prompt = MarksPrompt(tokenizer, settings.layout, config.vocab_size, file=file, settings=beside)
    path = _path(load_causal_gguf(found, config, place, progress), prompt, settings, config)
    _try_out(path, file)
    _measure_context(path)
    return path


def _path(backend: Backend, prompt: MarksPrompt, settings: MarksSettings, config: LlamaConfig) -> LeftToRight:
    """The parts put together, with the confidence that was fitted for this model if there is one."""
    fitted = fitted_for(prompt.vocabulary, config.layers, config.hidden_size)
    return LeftToRight(backend, prompt, with_fitted(settings, fitted))


def _check_room(file: Path, settings: MarksSettings, config: LlamaConfig) -> None:
    """Raises CheckpointError where prompts may be longer than the network's positions."""
    if (most := settings.layout.most_tokens) > config.max_positions:
        have = f"layout may take {most} tokens, the network has {config.max_positions} positions"
        raise CheckpointError(f"{file}: {have}; lower layout.prefix_tokens and its like")


@torch.inference_mode()
def _try_out(path: LeftToRight, folder: Path) -> None:
    """Read one token. Raises CheckpointError if the logits are unusable."""
    backend = path.backend
    hidden = backend.prefill(torch.tensor([[path.prompt.end_ids[0]]], device=backend.device), backend.new_cache(1))
    logits = backend.logits(hidden[0, -1])
    if not bool(logits.isfinite().all()) or bool(logits.amax() == logits.amin()):
        raise CheckpointError(f"{folder}: its weights compute no finite logits that differ; copy the checkpoint again")


def _measure_context(path: LeftToRight) -> None:
    """Set how much text from elsewhere there is time for, where the checkpoint reads any."""
    layout = path.settings.layout
    if not layout.context_tokens:
        return
    beside = layout.prefix_tokens + layout.suffix_tokens
    per_s = tokens_per_second(path.backend)
    path.context_budget = ContextBudget(tokens=layout.context_tokens, beside=beside, per_s=per_s)
    log.info("text from elsewhere: at most %d tokens; prompts are read at %.0f a second", layout.context_tokens, per_s)


@torch.inference_mode()
def tokens_per_second(backend: Backend, clock: Callable[[], float] = time.perf_counter) -> float:
    """How fast the backend reads a prompt, in chunks as of a fill's."""
    ids, times, begun = torch.zeros(1, CHUNK_TOKENS, dtype=torch.long, device=backend.device), list[float](), clock()
    while not times or (len(times) < MOST_READS and clock() - begun < PATIENCE_S):
        cache, began = backend.new_cache(CHUNK_TOKENS), clock()
        # To the host, so that a GPU has done what it was told.
        backend.prefill(ids, cache, last=1).sum().item()
        times.append(clock() - began)
    return CHUNK_TOKENS / min(times)
