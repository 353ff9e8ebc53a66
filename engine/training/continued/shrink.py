"""A smaller network of the base: fewer tokens, fewer layers, to be continued like the base.

`python -m midspan.engine.training.continued.shrink runs/base runs/small --corpus runs/sources --layers 30 26`
keeps the tokens that the corpus uses most and drops layer after layer, each time the one without which a sample of the
corpus is likeliest (Song et al. 2024, arXiv:2402.09025). `shrink.json` says which layers are left, and what it cost.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from midspan.engine.llama import Llama, LlamaConfig, load_state, rotations
from midspan.engine.training.continued.texts import Corpus
from midspan.engine.training.continued.vocabulary import counts, trim
from midspan.engine.weights.load_llama import open_llama

ROWS, ROW_TOKENS = 8, 192
# The first layer turns tokens into words and the last one words into tokens: networks never do without.
FIRST, LAST = 1, 1


def sample_ids(tokenizer: Tokenizer, corpus: Corpus, seed: int = 0) -> Tensor:
    """Plain text ids [ROWS, ROW_TOKENS] of all languages in turn."""
    chance, rows = random.Random(seed), list[list[int]]()
    while len(rows) < ROWS:
        text = corpus.draw(chance, corpus.languages[len(rows) % len(corpus.languages)]).text
        begin = text.find("\n", chance.randrange(len(text))) + 1
        ids = tokenizer.encode(text[begin : begin + 8 * ROW_TOKENS]).ids
        if len(ids) >= ROW_TOKENS:
            rows.append(ids[:ROW_TOKENS])
    return torch.tensor(rows)


@torch.no_grad()
def drop_order(network: Llama, ids: Tensor, keep: int) -> list[tuple[int, float]]:
    """The layers to drop, in order, and the nats a token of `ids` [B, N] after each."""
    left, dropped = list(range(network.config.layers)), list[tuple[int, float]]()
    while len(left) > keep:
        found = _losses_without(network, ids, left)
        place = min(found, key=found.__getitem__)
        dropped.append((left.pop(place), found[place]))
        print(f"without {dropped[-1][0]}: {dropped[-1][1]:.3f} nats a token, {len(left)} layers left", flush=True)
    return dropped


def _losses_without(network: Llama, ids: Tensor, left: list[int]) -> dict[int, float]:
    """Nats a token without each of the layers that may be dropped, by its place in `left`."""
    layers = [network.model.layers[layer] for layer in left]
    x: Tensor = network.model.embed_tokens(ids)
    rope = rotations(network.config, 0, ids.shape[1], x.dtype)
    found = {}
    for place, layer in enumerate(layers):
        if FIRST <= place < len(layers) - LAST:
            found[place] = _loss(network, ids, x, layers[place + 1 :])
        x = layer(x, rope)
    return found


def _loss(network: Llama, ids: Tensor, x: Tensor, layers: list[torch.nn.Module]) -> float:
    rope = rotations(network.config, 0, ids.shape[1], x.dtype)
    for layer in layers:
        x = layer(x, rope)
    # Every third place is enough, and from where there is something to go by.
    places = slice(ids.shape[1] // 8, -1, 3)
    logits = network.logits(x[:, places]).float()
    targets = ids[:, 1:][:, places.start :: places.step]
    return float(F.cross_entropy(logits.flatten(0, 1), targets[:, : logits.shape[1]].flatten()))


def smaller(network: Llama, kept_tokens: list[int], kept_layers: list[int]) -> dict[str, Tensor]:
    """The tensors of the smaller network, its layers numbered anew."""
    prefixes = {f"model.layers.{old}.": f"model.layers.{new}." for new, old in enumerate(kept_layers)}
    found = {}
    for name, tensor in network.named_parameters():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            found[name] = tensor.detach()[kept_tokens].clone()
        elif not name.startswith("model.layers."):
            found[name] = tensor.detach()
        elif (old := ".".join(name.split(".")[:3]) + ".") in prefixes:
            found[prefixes[old] + name.removeprefix(old)] = tensor.detach()
    return found


def shrink(base: Path, out: Path, corpus: Corpus, tokens: int, layers: list[int]) -> None:
    """Write a folder for each number of layers: `out` with the number behind it."""
    network, tokenizer = open_llama(base), Tokenizer.from_file(str(base / "tokenizer.json"))
    trimmed, kept_tokens = trim(tokenizer, counts(tokenizer, corpus), tokens)
    config = json.loads((base / "config.json").read_text()) | {"vocab_size": len(kept_tokens)}
    whole = Llama(LlamaConfig.from_json(config))
    load_state(whole, smaller(network, kept_tokens, list(range(network.config.layers))))
    dropped = drop_order(whole.bfloat16(), sample_ids(trimmed, corpus), min(layers))
    for count in layers:
        gone = dropped[: network.config.layers - count]
        kept_layers = sorted(set(range(network.config.layers)) - {layer for layer, _ in gone})
        folder = out.with_name(f"{out.name}-{count}")
        folder.mkdir(parents=True, exist_ok=True)
        save_file(smaller(network, kept_tokens, kept_layers), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": count}, indent=1) + "\n")
        trimmed.save(str(folder / "tokenizer.json"))
        said = {"tokens": len(kept_tokens), "layers": kept_layers, "dropped": gone}
        (folder / "shrink.json").write_text(json.dumps(said, indent=1) + "\n")


def main() -> None:
    """Read the command line and write the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path, help="each folder is named so, and the number of its layers")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--layers", type=int, nargs="+", default=[22, 14])
    arguments = parser.parse_args()
    shrink(
        arguments.base, arguments.out, Corpus.read(arguments.corpus / "train.jsonl"), arguments.tokens, arguments.layers
    )


if __name__ == "__main__":
    main()
