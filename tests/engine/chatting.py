"""A stand-in for the released checkpoint: a tokenizer of its kind, its special tokens and turns, a tiny network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from midspan.engine.weights.load import save_weights
from tests.engine.tiny import SOURCE, config_json, grouped, random_model

# The release's template as far as a request needs it: turns, and an empty thinking channel where thinking is off.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn>' + message['role'] + '\n' + message['content'] | trim + '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}"
    "{% if not enable_thinking | default(false) %}{{ '<|channel>thought\n<channel|>' }}{% endif %}{% endif %}"
)
SPECIAL = (
    *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
    *("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|tool_response>", "<|image|>"),
)
RUNS = tuple("\n" * count for count in range(1, 5))
LEARNT = 300


def stand_in(file: Path) -> None:
    """Write a tokenizer built as Gemma's: spaces as ▁, no split into words, byte fallback, line ends as tokens."""
    learnt = Tokenizer(models.BPE())
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.pre_tokenizer = pre_tokenizers.Split("\n", "removed")
    learnt.train_from_iterator([SOURCE] * 3, trainers.BpeTrainer(vocab_size=LEARNT, show_progress=False))
    made: dict[str, Any] = json.loads(learnt.to_str())
    words = [token for token, _ in sorted(made["model"]["vocab"].items(), key=lambda pair: pair[1])]
    whole = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *RUNS, *words]
    made["model"] |= {"vocab": {token: i for i, token in enumerate(whole)}, "byte_fallback": True, "unk_token": "<unk>"}
    made["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    blank = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    made["decoder"] = {"type": "Sequence", "decoders": [blank, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    made["added_tokens"] = [
        {"id": whole.index(token), "content": token, "special": token in SPECIAL, **flags}
        for token in (*SPECIAL, *RUNS)
    ]
    file.write_text(json.dumps(made))


def midspan_json(quantize: str | None = None, **settings: Any) -> dict[str, Any]:
    """The content of a `midspan.json` with these values, each in its group."""
    return grouped(**settings) | ({} if quantize is None else {"quantize": quantize})


def chat_checkpoint(folder: Path, *, more_ids: int = 0, **settings: Any) -> Path:
    """A whole checkpoint folder with `settings` in its `midspan.json`; without settings it has no such file.

    The network's vocabulary has `more_ids` more ids than the tokenizer.
    """
    stand_in(folder / "tokenizer.json")
    vocab_size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size() + more_ids
    config = config_json(vocab_size)
    config["canvas_length"] = 64
    (folder / "config.json").write_text(json.dumps(config))
    save_weights(random_model(config), folder, int8=False)
    if settings:
        (folder / "midspan.json").write_text(json.dumps(midspan_json(**settings)))
    return folder
