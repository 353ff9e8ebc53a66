"""A trie of texts holds each text, and each common beginning once."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.backends.trie import Trie

texts = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=6)


@given(texts)
def test_rows_give_back_every_text(given_texts: list[list[int]]) -> None:
    trie = Trie.of(given_texts)
    rows = iter(trie.rows.tolist())
    for text in given_texts:
        nodes = [next(rows) for _ in text]
        assert trie.ids[nodes].tolist() == text
        assert trie.depths[nodes].tolist() == list(range(len(text)))
        for depth, node in enumerate(nodes):
            # A node sees itself and the tokens before it in its own text, nothing else.
            assert trie.sees[node].nonzero()[:, 0].tolist() == sorted(nodes[: depth + 1])
    assert next(rows, None) is None


@given(texts)
def test_there_is_one_node_for_each_beginning(given_texts: list[list[int]]) -> None:
    trie = Trie.of(given_texts)
    beginnings = {tuple(text[:end]) for text in given_texts for end in range(1, len(text) + 1)}
    assert len(trie.ids) == len(trie.depths) == len(trie.sees) == len(beginnings)


def test_texts_that_begin_alike_share_their_beginning() -> None:
    trie = Trie.of([[5, 6, 7], [5, 6, 8], [6]])
    assert trie.ids.tolist() == [5, 6, 7, 8, 6]
    assert trie.rows.tolist() == [0, 1, 2, 0, 1, 3, 4]
    assert torch.equal(trie.sees[3], torch.tensor([True, True, False, True, False]))
