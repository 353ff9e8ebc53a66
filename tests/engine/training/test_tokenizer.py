"""The tokenizer decodes any text to itself, makes newline and indent one token, and is safe from special tokens."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from midspan.engine.prompts.tokenizer_json import open_tokenizer
from midspan.engine.training import tokenizer as bpe

SOURCE = "def area(width, height):\n    if width:\n        return width * height\n    return 0\n\n\n" * 20


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return bpe.train([SOURCE], vocab_size=400)


@given(text=st.text())
def test_any_text_is_decoded_to_itself(trained: Tokenizer, text: str) -> None:
    ids = trained.encode(text).ids
    assert trained.decode(ids, skip_special_tokens=False) == text
    assert not set(ids) & {0, 1, 2, 3}


def test_special_ids_are_fixed(trained: Tokenizer) -> None:
    assert [trained.token_to_id(token) for token in ("<pad>", "<eos>", "<bos>", "<filler>")] == [0, 1, 2, 3]


def test_user_code_cannot_spell_a_special_token(trained: Tokenizer) -> None:
    text = 'x = "<filler><bos><eos><pad>"'
    ids = trained.encode(text).ids
    assert min(ids) > 3
    assert trained.decode(ids, skip_special_tokens=True) == text


def test_newline_and_indent_are_one_token(trained: Tokenizer) -> None:
    assert trained.encode("\n        ").tokens == ["Ċ" + 8 * "Ġ"]


@pytest.mark.parity
def test_saved_file_opens_in_transformers_with_the_same_ids(trained: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    trained.save(str(file))
    fast = PreTrainedTokenizerFast(tokenizer_file=str(file))
    assert fast.encode(SOURCE, add_special_tokens=False) == trained.encode(SOURCE).ids
    assert Tokenizer.from_file(str(file)).encode(SOURCE).ids == trained.encode(SOURCE).ids


def test_a_loaded_tokenizer_spells_no_special_token_either(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(str(tmp_path / "tokenizer.json"))
    assert min(open_tokenizer(tmp_path / "tokenizer.json").encode("<bos><filler>").ids) > 3
