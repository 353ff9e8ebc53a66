"""A real small model (SmolLM2-135M, Q4_1) continues text as llama.cpp does, but for what the roundings decide."""

from __future__ import annotations

import math
import sysconfig
from pathlib import Path

import pytest
import torch

from benchmarks.llama_server import LlamaServer
from midspan.engine.backends.backend import Backend
from midspan.engine.backends.choose import load_causal_gguf
from midspan.engine.backends.plain import TorchBackend
from midspan.engine.prompts.gguf_tokenizer import gguf_tokenizer
from midspan.engine.prompts.tokenizer_json import tokenizer_of
from midspan.engine.weights.gguf_file import GgufFile
from midspan.engine.weights.load_gguf import gguf_config, read_gguf

pytestmark = [pytest.mark.llama_server, pytest.mark.timeout(600)]
GGUF = Path(__file__).parents[2] / ".cache/smollm2/plain.gguf"
CPU = torch.device("cpu")
PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 20, 60, 16
LIKELY = 10
# Differences of this many standard errors decide nothing: a tie.
ERRORS = 4.0


def prompts() -> list[str]:
    """The middle of files of the standard library."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = (path.read_text(encoding="utf-8") for path in paths)
    return [text[len(text) // 2 :][:2000] for text in texts if len(text) > 20_000][:PROMPTS]


@torch.inference_mode()
def continued(backend: Backend, ids: list[int]) -> list[int]:
    """The likeliest next tokens, one after the other."""
    cache, new, out = backend.new_cache(len(ids) + NEW_TOKENS), ids, list[int]()
    for _ in range(NEW_TOKENS):
        hidden = backend.prefill(torch.tensor([new]), cache)
        new = [int(backend.logits(hidden[0, -1]).argmax())]
        out += new
    return out


@torch.inference_mode()
def log_probabilities(backend: Backend, ids: list[int]) -> torch.Tensor:
    """Of each next token [V]."""
    hidden = backend.prefill(torch.tensor([ids]), backend.new_cache(len(ids)))
    return torch.log_softmax(backend.logits(hidden[0, -1]), dim=-1)


def spread(differences: list[float]) -> float:
    """The root of their mean square."""
    return math.sqrt(sum(one * one for one in differences) / len(differences))


def test_greedy_text_is_llama_cpps() -> None:
    """Both round weights' scales and rows in ways of their own: each side's error is measured against float32."""
    found = GgufFile(GGUF)
    config = gguf_config(found)
    kernels = load_causal_gguf(found, config, CPU)
    exact = TorchBackend(read_gguf(found, config).network(config, torch.float32, CPU))
    tokenizer, same = tokenizer_of(gguf_tokenizer(found.metadata, GGUF), GGUF), 0
    leads, mine, others = list[float](), list[float](), list[float]()
    with LlamaServer(GGUF, 1) as server:
        for text in prompts():
            ids = tokenizer.encode(text, add_special_tokens=False).ids[:PROMPT_TOKENS]
            theirs, likely = server.complete(ids, NEW_TOKENS, LIKELY)
            true, rounded = log_probabilities(exact, ids), log_probabilities(kernels, ids)
            others += [logprob - float(true[token]) for token, logprob in likely.items()]
            mine += [float(rounded[token] - true[token]) for token in likely]
            ours = continued(kernels, ids)
            places = (i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1])
            if (place := next(places, None)) is None:
                same += 1
            else:
                true = log_probabilities(exact, ids + ours[:place])
                leads.append(abs(float(true[ours[place]] - true[theirs[place]])))
    assert same > PROMPTS // 3, same
    assert spread(mine) < 2 * spread(others)
    assert max(leads) < ERRORS * math.sqrt(2) * math.hypot(spread(mine), spread(others))
