"""What of a long text becomes tokens, and what stays as it was from key to key."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import midspan.engine.prompt
from midspan.engine.api import Hole
from midspan.engine.prompt import ANCHOR_CHARS, CHARS_A_TOKEN, Prompt

TOKENIZER = Path(midspan.engine.__file__).parent / "checkpoints" / "embedded" / "tokenizer.json"
# Real code, long enough.
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path("fixtures/keystroke").glob("*.py"))) * 2
NEAR, WHOLE = 64, 100_000


@cache
def prompt_of(tokens: int) -> Prompt:
    return Prompt(TOKENIZER, prefix_tokens=tokens, filler_id=3)


@given(st.integers(0, len(TEXT)))
def test_the_tokens_before_a_gap_are_those_of_the_whole_text(at: int) -> None:
    near, whole = (prompt.lay_out(Hole(prefix=TEXT[:at], suffix="")) for prompt in (prompt_of(NEAR), prompt_of(WHOLE)))
    bos, *ids = near.prefix
    assert near.heal == whole.heal
    assert [bos, *ids] == [whole.prefix[0], *whole.prefix[len(whole.prefix) - len(ids) :]]
    assert len(ids) > NEAR - NEAR // 4 or ids == whole.prefix[1:]


def test_far_text_is_left_out_in_steps() -> None:
    keys = range(3000, len(TEXT))
    lengths = [len(prompt_of(NEAR)._near(TEXT[:at])) for at in keys]
    begins = [at - length for at, length in zip(keys, lengths, strict=True)]
    assert min(lengths) >= CHARS_A_TOKEN * NEAR
    assert max(lengths) < CHARS_A_TOKEN * NEAR + ANCHOR_CHARS + max(map(len, TEXT.split("\n"))) + 1
    assert len(set(begins)) <= len(keys) // ANCHOR_CHARS + 2
    assert all(TEXT[begin - 1] == "\n" for begin in begins)


@pytest.mark.parametrize("suffix", ["\n    return total\n", "", "y = 2\n"])
def test_the_text_behind_the_gap_is_encoded_once_while_it_stays(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
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
