"""Holds a real GGUF file of the llama family against transformers: the logits behind prompts of Python source.

`benchmarks/gguf_logits.py FILE.gguf [--prompts 20] [--tokens 200]` opens the file twice in float32 plain torch: by
midspan's own reading of it (tokenizer, weights, network) and by transformers' with the `gguf` package. The last line is
a JSON row: the greatest difference of two logits, in shares of the logits' standard deviation, in how many prompts the
ids are the same, and at how many of all positions the likeliest token is. Needs four bytes a parameter twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from midspan.engine.backends.plain import TorchBackend
from midspan.engine.prompts.gguf_tokenizer import gguf_tokenizer
from midspan.engine.prompts.tokenizer_json import tokenizer_of
from midspan.engine.weights.gguf_file import GgufFile
from midspan.engine.weights.load_gguf import gguf_config, read_gguf


def texts(count: int) -> list[str]:
    """The middle of some files of the standard library."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    long = [text for path in paths if len(text := path.read_text(encoding="utf-8")) > 8000]
    return [text[len(text) // 2 :] for text in long[:count]]


def opened(file: Path) -> PreTrainedModel:
    """The file as transformers reads it. Its own loading of GGUF files wants one package more."""
    config = AutoConfig.from_pretrained(str(file.parent), gguf_file=file.name)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    found = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=network)["tensors"]
    left_out, unknown = network.load_state_dict(found, strict=False)
    if unknown or not {*left_out} <= {"lm_head.weight"}:
        raise SystemExit(f"{file}: transformers reads other tensors: {left_out[:3]}, {unknown[:3]}")
    network.tie_weights()
    return network.eval()


@torch.inference_mode()
def main() -> int:
    """Read both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=200)
    args = parser.parse_args()
    found = GgufFile(args.gguf)
    config = gguf_config(found)
    ours = TorchBackend(read_gguf(found, config).network(config, torch.float32, torch.device("cpu")))
    tokenizer = tokenizer_of(gguf_tokenizer(found.metadata, args.gguf), args.gguf)
    theirs = opened(args.gguf)
    other = AutoTokenizer.from_pretrained(str(args.gguf.parent), gguf_file=args.gguf.name)
    furthest, same_ids, same, positions = 0.0, 0, 0, 0
    for text in texts(args.prompts):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        same_ids += ids == other.encode(text, add_special_tokens=False)
        tokens = torch.tensor([ids[: args.tokens]])
        left = ours.logits(ours.prefill(tokens, ours.new_cache(1))[0])
        right = theirs(tokens).logits[0, :, : left.shape[-1]]
        furthest = max(furthest, float((left - right).abs().max() / right.std()))
        same += int((left.argmax(dim=-1) == right.argmax(dim=-1)).sum())
        positions += left.shape[0]
    row = {"checkpoint": args.gguf.name, "device": "cpu", "prompts": args.prompts, "same_ids": same_ids}
    sys.stdout.write(json.dumps(row | {"positions": positions, "same_likeliest": same, "furthest": furthest}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
