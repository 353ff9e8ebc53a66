"""Opens `tokenizer.json`, after a look at it: some inconsistent files would end the whole process inside the library.

What is read is byte-level BPE and its like, as the embedded model, Gemma, Llama and Qwen have it. No part of the file
may do what a fill cannot have: drop out merges at random, cut or pad a text, or write long texts for short ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from midspan.engine.api import CheckpointError
from midspan.engine.settings import MOST_IDS
from midspan.engine.weights.typed_json import one_line, read_object, shown

# Gemma's has 32 million bytes.
MOST_BYTES = 48 << 20
NORMALIZERS = ("NFC", "NFKC", "Prepend", "Replace", "Sequence")
PRE_TOKENIZERS = ("ByteLevel", "Digits", "Metaspace", "Punctuation", "Sequence", "Split", "Whitespace")
DECODERS = ("ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip")
PARTS = {
    "normalizer": ("normalizers", NORMALIZERS),
    "pre_tokenizer": ("pretokenizers", PRE_TOKENIZERS),
    "decoder": ("decoders", DECODERS),
}
DEPTH, MOST_PARTS = 3, 32
# Characters that a part may put in the place of others, and of a regular expression.
MOST_WRITTEN, MOST_PATTERN = 16, 4000
# Comes back as it is from every tokenizer that is of use here.
TRIAL = "def Total(items, tax=0.5):\n    # 2 lines\n\treturn [sum(x) for x in items if x != 'a']\n"
SOURCE = "take it from the checkpoint's source"


def open_tokenizer(file: Path, *, mid_text: bool = False) -> Tokenizer:
    """The tokenizer, in which no text can spell a special token. Raises CheckpointError, one line with file and key.

    With `mid_text` it puts no blank before a text, as Llama's does: what is encoded then are parts of a text.
    """
    return tokenizer_of(read_object(file, MOST_BYTES), file, mid_text=mid_text)


def tokenizer_of(values: Mapping[str, Any], file: Path, *, mid_text: bool = False) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`'s object, which came from `file`; see open_tokenizer."""
    if (problem := _problem(values)) is not None:
        raise CheckpointError(f"{file}: {problem}; {SOURCE}")
    try:
        tokenizer = Tokenizer.from_str(json.dumps(_mid_text(values) if mid_text else values))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        again = tokenizer.decode(tokenizer.encode(TRIAL, add_special_tokens=False).ids, skip_special_tokens=True)
    except Exception as error:
        # The library knows no narrower error than this one.
        if type(error) is not Exception:
            raise
        raise CheckpointError(f"{file}: not a tokenizer ({one_line(error)}); {SOURCE}") from error
    if again != TRIAL:
        raise CheckpointError(f"{file}: the tokenizer does not give a text back that it took in; {SOURCE}")
    if most_id(tokenizer) >= MOST_IDS:
        raise CheckpointError(f"{file}: has ids up to {most_id(tokenizer)}; {MOST_IDS - 1} is the most that is read")
    return tokenizer


def most_id(tokenizer: Tokenizer) -> int:
    """The greatest id, which may be more than there are tokens."""
    greatest: int = max(tokenizer.get_vocab().values())
    return greatest


def _mid_text(values: Mapping[str, Any]) -> dict[str, Any]:
    """The file's object, without the parts that put a blank before a text and take it away again."""
    return {**values, **{key: _without_blank(values.get(key), inside) for key, (inside, _) in PARTS.items()}}


def _without_blank(part: Any, inside: str) -> Any:
    if part is None or part["type"] in ("Prepend", "Strip"):
        return None
    if part["type"] == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if part["type"] != "Sequence":
        return part
    left = (_without_blank(one, inside) for one in part[inside])
    return {**part, inside: [one for one in left if one is not None]}


def _problem(values: Mapping[str, Any]) -> str | None:
    """The first key whose value cannot be used, with the reason."""
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        return f"model.type is {shown(model.get('type') if isinstance(model, dict) else None)}, only BPE is read"
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(key):
            return f"model.{key} is {shown(model[key])}, which is not read"
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary:
        return "model.vocab is not an object of tokens"
    ids = vocabulary.values()
    if not all(type(one) is int and 0 <= one < MOST_IDS for one in ids) or len(set(ids)) != len(ids):
        return f"model.vocab has an id twice, or one that is no whole number from 0 to {MOST_IDS - 1}"
    for key, (inside, known) in PARTS.items():
        if (problem := _part_problem(values.get(key), key, inside, known, DEPTH)) is not None:
            return problem
    return None


def _part_problem(part: Any, key: str, inside: str, known: tuple[str, ...], depth: int) -> str | None:
    """What is wrong with a part and those inside it."""
    if part is None and depth == DEPTH:
        return None
    if not isinstance(part, dict) or part.get("type") not in known:
        return f"{key} is {shown(part.get('type') if isinstance(part, dict) else part)}, not one of {', '.join(known)}"
    if part["type"] != "Sequence":
        return _piece_problem(part, key)
    pieces = part.get(inside)
    if not isinstance(pieces, list) or len(pieces) > MOST_PARTS or not depth:
        return f"{key}.{inside} is not a list of {MOST_PARTS} parts at most, {DEPTH} deep"
    problems = (_part_problem(one, f"{key}.{inside}[{n}]", inside, known, depth - 1) for n, one in enumerate(pieces))
    return next((problem for problem in problems if problem is not None), None)


def _piece_problem(piece: Mapping[str, Any], key: str) -> str | None:
    """What is wrong with a part that has none inside it."""
    for name in ("content", "prepend", "replacement"):
        if name in piece and not (isinstance(piece[name], str) and len(piece[name]) <= MOST_WRITTEN):
            return f"{key}.{name} is not a text of {MOST_WRITTEN} characters at most"
    if piece["type"] == "Strip" and not all(piece.get(end) in (0, 1) for end in ("start", "stop")):
        return f"{key} strips more than one character"
    if "pattern" not in piece:
        return None
    pattern = piece["pattern"]
    kind, text = next(iter(pattern.items()), (None, None)) if isinstance(pattern, dict) else (None, None)
    if not isinstance(text, str) or not 0 < len(text) <= MOST_PATTERN or kind not in ("String", "Regex"):
        return f"{key}.pattern is no String or Regex of 1 to {MOST_PATTERN} characters"
    if kind == "Regex" and (piece["type"] != "Split" or _repeats_repetitions(text)):
        return f"{key}.pattern is a regular expression that is not safe"
    return None


def _repeats_repetitions(pattern: str) -> bool:
    """Whether a group that is repeated holds a repetition without end or a choice, as in `(a+)+` and `(a|a)*`.

    A search for such a pattern may take for ever.
    """
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "c", re.sub(r"\\.", "c", pattern, flags=re.DOTALL))
    inside, closed = [False], False
    for token in re.findall(r"\(|\)|[*+]|\{\d*,?\d*\}|.", plain, re.DOTALL):
        if token == "(":
            inside.append(False)
        elif token == ")" and len(inside) > 1:
            closed = inside.pop()
            inside[-1] |= closed
        elif token in "*+" or token[0] == "{":
            if closed:
                return True
            inside[-1] |= not token.endswith("}") or token.endswith(",}")
        else:
            inside[-1] |= token == "|"
            closed = False
    return False
