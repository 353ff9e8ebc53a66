"""What a continued checkpoint is worth: held-out gaps by language, milliseconds a fill, bytes a token.

`python -m midspan.engine.training.continued.evaluate runs/continued/checkpoint --corpus runs/sources` prints one JSON
object; `benchmarks/record.py fim.py ...` records it. Times are of plain torch on one thread: state ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from midspan.engine.llama import KeyValueCache, Llama
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.training.continued.heldout import ROOM, exact_matches, gap_losses
from midspan.engine.training.continued.recipes import LONG
from midspan.engine.training.continued.rows import RowBuilder
from midspan.engine.training.continued.texts import Corpus
from midspan.engine.weights.load_llama import open_llama

# int4 in groups of 32 with a scale of 16 bits each.
INT4_BITS = 4.5
CACHED, NEW, STEPS, ROUNDS = 200, 100, 8, 7


def sizes(network: Llama) -> dict[str, float]:
    """Parameters, and megabytes that a token's step reads: layers and head, in int8 and in int4 with an int8 head."""
    head = network.head.numel()
    layers = sum(parameter.numel() for parameter in network.model.layers.parameters())
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "layers": network.config.layers,
        "tokens": network.config.vocab_size,
        "int8_mb": round((layers + head) / 1e6, 1),
        "int4_mb": round((layers * INT4_BITS / 8 + head) / 1e6, 1),
    }


@torch.no_grad()
def fill_ms(network: Llama) -> dict[str, float]:
    """Median milliseconds of reading NEW tokens behind CACHED ones, and of STEPS single tokens."""
    cache = KeyValueCache(network.config, 1, CACHED + NEW + STEPS, network.head.dtype)
    network(torch.zeros((1, CACHED), dtype=torch.long), cache)
    prompts, steps = [], []
    for _ in range(ROUNDS):
        cache.truncate(CACHED)
        began = time.process_time()
        network.logits(network(torch.ones((1, NEW), dtype=torch.long), cache)[:, -1])
        read = time.process_time()
        for _ in range(STEPS):
            network.logits(network(torch.ones((1, 1), dtype=torch.long), cache)[:, -1])
        prompts.append(read - began)
        steps.append(time.process_time() - read)
    return {"prompt_ms": round(1000 * median(prompts), 1), "steps_ms": round(1000 * median(steps), 1)}


def evaluate(folder: Path, corpus: Path, gaps: int, fills: int) -> dict[str, Any]:
    """The whole object."""
    network = open_llama(folder, torch.bfloat16)
    heldout = Corpus.read(corpus / "heldout.jsonl")
    prompt = Prompt(folder / "tokenizer.json", prefix_tokens=ROOM, filler_id=0)
    builder = RowBuilder(prompt, replace(LONG, tokens=ROOM))
    losses = gap_losses(network, builder, heldout, gaps)
    return {
        "checkpoint": str(folder),
        **sizes(network),
        "gaps": gaps,
        "nats_a_byte": {language: round(nats, 4) for language, nats in losses.items()},
        "fills": fills,
        "exact": exact_matches(network, builder, heldout, fills),
        "bfloat16": fill_ms(network),
        "float32": fill_ms(network.float()),
    }


def main() -> None:
    """Read the command line and print the object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--gaps", type=int, default=120, help="of each language, whose loss is measured")
    parser.add_argument("--fills", type=int, default=40, help="of each language, ends of lines and whole lines each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(evaluate(arguments.checkpoint, arguments.corpus, arguments.gaps, arguments.fills)))


if __name__ == "__main__":
    main()
