"""From the folder of a `llama`, `qwen2` or `qwen3` checkpoint to what fills holes with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from midspan.engine.api import CheckpointError, OnProgress
from midspan.engine.backends.backend import Backend
from midspan.engine.backends.choose import load_causal, load_causal_gguf
from midspan.engine.left_to_right import LeftToRight
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
