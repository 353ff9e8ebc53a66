"""A GGUF file's tokenizer: byte-level BPE, as its metadata spells it, as the object of a `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midspan.engine.api import CheckpointError
from midspan.engine.weights.typed_json import shown

CONTROL, USER_DEFINED = 3, 4  # token_type of special tokens, and of text that is one token
FIX = "take the model's safetensors folder"
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def _split(pattern: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]


GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = [{"type": "Digits", "individual_digits": True}, GPT2]
# How a text is split into words, by `tokenizer.ggml.pre`.
SPLITS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [GPT2],
    "smollm": DIGITS,
    "starcoder": DIGITS,
    "refact": DIGITS,
    "qwen2": _split(WORDS % ""),
    "llama-bpe": _split(WORDS % "{1,3}"),
}


def gguf_tokenizer(metadata: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The object of a `tokenizer.json`. Raises CheckpointError for another kind, and for lists that do not fit."""
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or not isinstance(split, str) or split not in SPLITS:
        known = f"gpt2 with one of {', '.join(SPLITS)} is read"
        raise CheckpointError(f"{file}: its tokenizer is {shown(kind)} with splits {shown(split)}; {known}; {FIX}")
    tokens, kinds, merges = (_texts(metadata, name, file) for name in ("tokens", "token_type", "merges"))
    if len(tokens) != len(kinds) or len(set(tokens)) != len(tokens):
        raise CheckpointError(f"{file}: tokenizer.ggml.tokens has a token twice, or not as many as their types; {FIX}")
    pairs = [merge.split(" ") for merge in merges]
    return {
        "version": "1.0",
        "added_tokens": [
            _added(place, token, special=one == CONTROL)
            for place, (token, one) in enumerate(zip(tokens, kinds, strict=True))
            if one in (CONTROL, USER_DEFINED)
        ],
        "normalizer": {"type": "NFC"} if split == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": SPLITS[split]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {token: place for place, token in enumerate(tokens)}, "merges": pairs},
    }


def _texts(metadata: Mapping[str, Any], name: str, file: Path) -> list[Any]:
    """A list of the tokenizer, of texts or of whole numbers. Raises CheckpointError."""
    found = metadata.get(f"tokenizer.ggml.{name}")
    wanted = int if name == "token_type" else str
    if not isinstance(found, list) or not found or not all(type(one) is wanted for one in found):
        raise CheckpointError(f"{file}: tokenizer.ggml.{name} is no list of {wanted.__name__}; {FIX}")
    return found


def _added(place: int, token: str, *, special: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": place, "content": token, "special": special, **plain}
