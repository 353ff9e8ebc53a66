"""Tokenizing long texts: which part near the gap becomes tokens, and how little is tokenized again per key."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding

import midspan.engine.prompts.prompt
from midspan.engine.api import Hole
from midspan.engine.prompts.prompt import Prompt
from midspan.engine.prompts.surroundings import ANCHOR_CHARS, CHARS_A_TOKEN
from midspan.engine.prompts.surroundings import near as near_end
from midspan.engine.prompts.tokens import REST_CHARS

TOKENIZER = Path(midspan.engine.__file__).parent / "checkpoints" / "embedded" / "tokenizer.json"
# Real code, long enough.
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path("fixtures/keystroke").glob("*.py"))) * 2
NEAR, WHOLE = 64, 100_000


@cache
def prompt_of(tokens: int) -> Prompt:
    return Prompt(TOKENIZER, prefix_tokens=tokens, filler_id=3)


@given(st.integers(0, len(TEXT)))
def test_the_tokens_before_a_gap_are_the_last_ones_of_the_whole_text(at: int) -> None:
    near, whole = (prompt.lay_out(Hole(prefix=TEXT[:at], suffix="")) for prompt in (prompt_of(NEAR), prompt_of(WHOLE)))
    bos, *ids = near.prefix
    assert near.heal == whole.heal
    assert [bos, *ids] == [whole.prefix[0], *whole.prefix[len(whole.prefix) - len(ids) :]]
    assert len(ids) > NEAR - NEAR // 4 or ids == whole.prefix[1:]


@given(st.integers(0, len(TEXT)), st.lists(st.integers(-3, 40), min_size=1, max_size=12))
def test_a_text_typed_in_keys_has_the_tokens_of_the_whole_text(at: int, keys: list[int]) -> None:
    prompt = prompt_of(WHOLE)
    for key in keys:
        at = min(len(TEXT), max(0, at + key))
        layout = prompt.lay_out(Hole(prefix=TEXT[:at], suffix=""))
        healed = len(TEXT[:at]) - len(layout.heal)
        assert layout.prefix[1:] == prompt.encode(TEXT[:at])[: len(layout.prefix) - 1]
        assert prompt.decode(layout.prefix) == TEXT[:healed]


def test_a_key_tokenizes_only_the_line_again(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = Prompt(TOKENIZER, prefix_tokens=WHOLE, filler_id=3)
    prompt.lay_out(Hole(prefix=TEXT[:5000], suffix=""))
    assert prompt._before[0].count("\n") > 50
    read = list[str]()

    class Listening:
        def encode_batch(self, texts: list[str], add_special_tokens: bool) -> list[Encoding]:
            read.extend(texts)
            return tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)

    tokenizer = prompt._tokenizer
    monkeypatch.setattr(prompt, "_tokenizer", Listening())
    for at in range(5000, 5400):
        prompt.lay_out(Hole(prefix=TEXT[:at], suffix="\n"))
    short = [text for text in read if len(text) <= REST_CHARS + 1]
    assert len(short) >= 399
    assert all(TEXT[:5400].find(text) > 0 for text in short)


def test_far_text_is_left_out_in_steps() -> None:
    keys = range(3000, len(TEXT))
    lengths = [len(near_end(TEXT[:at], NEAR)) for at in keys]
    begins = [at - length for at, length in zip(keys, lengths, strict=True)]
    assert min(lengths) >= CHARS_A_TOKEN * NEAR
    assert max(lengths) < CHARS_A_TOKEN * NEAR + ANCHOR_CHARS + max(map(len, TEXT.split("\n"))) + 1
    assert len(set(begins)) <= len(keys) // ANCHOR_CHARS + 2
    assert all(TEXT[begin - 1] == "\n" for begin in begins)


@pytest.mark.parametrize("suffix", ["\n    return total\n", "", "y = 2\n"])
def test_the_suffix_is_encoded_once_while_it_does_not_change(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, encoded = prompt_of(NEAR), list[str]()
    encode = prompt.encode

    def listen(text: str) -> list[int]:
        encoded.append(text)
        return encode(text)

    monkeypatch.setattr(prompt, "encode", listen)
    layouts = [prompt.lay_out(Hole(prefix=f"total = {key}", suffix=suffix)) for key in ("a", "ab", "abc")]
    assert len(encoded) == 1
    assert layouts[0].suffix == layouts[1].suffix == layouts[2].suffix
    other = prompt.lay_out(Hole(prefix="total = a", suffix="\nother\n"))
    assert prompt.decode(other.suffix) == "\nother\n"
