"""Fill-in-the-middle training: documents of its rows, its loss, resuming, and a twin that fills gaps."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import midspan.engine
from midspan.engine.api import Budget, Hole
from midspan.engine.autoregressive import Autoregressive
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.engine import load_infiller
from midspan.engine.prompts.prompt import EOS_ID, SUFFIX_TOKENS
from midspan.engine.training.fim import LONGEST_MIDDLE, FimBatch, FimSampler, fim_loss
from midspan.engine.training.gaps import SHORTEST_PREFIX, GapRecipe, LineIds
from midspan.engine.training.package import package
from midspan.engine.training.run import Recipe, Run
from midspan.engine.training.train import parse
from tests.engine.tiny import config_json, random_model
from tests.engine.training.test_training import tiny_corpus
from tests.examples import examples

FILLER, BOS, FIRST, LINE = 3, 2, 10, 12


def sampler_of(folder: Path, breaks: frozenset[int], seed: int, length: int = 4000) -> FimSampler:
    """A stream of `length` ids that encode their position, every twelfth a line end, with files ended at `breaks`."""
    ids = np.arange(FIRST, FIRST + length, dtype=np.uint16)
    for place in breaks:
        ids[place : place + 2] = EOS_ID, BOS
    ids.tofile(folder / "ids.bin")
    newline = frozenset(range(FIRST, FIRST + 4000, LINE))
    recipe = GapRecipe(text_tokens=64, widths=(32, 32, 64), slot_sizes=(8,), filler_id=FILLER, bos_id=BOS)
    return FimSampler(folder / "ids.bin", LineIds(newline=newline, top_level=newline), recipe, seed)


def documents_of(batch: FimBatch, row: int) -> list[tuple[list[int], list[bool]]]:
    """The row's documents, each as its ids and which of them are the middle's."""
    places, ids, middle = (column[row].tolist() for column in (batch.place, batch.ids, batch.middle))
    starts = [i for i, place in enumerate(places) if place == 0] + [len(ids)]
    assert starts[0] == 0
    for begin, end in pairwise(starts):
        assert places[begin:end] == list(range(end - begin))
    return [(ids[begin:end], middle[begin:end]) for begin, end in pairwise(starts)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream")


@examples(60)
@given(st.integers(33, 600), st.integers(0, 10_000), st.integers(30, 2000), st.integers(640, 4000))
def test_a_document_is_suffix_prefix_middle_of_one_place_in_one_file(
    folder: Path, tokens: int, seed: int, file_tokens: int, length: int
) -> None:
    breaks = frozenset(range(file_tokens, length - 2, file_tokens))
    batch = sampler_of(folder, breaks, seed, length).documents(5, tokens)
    stream = np.fromfile(folder / "ids.bin", dtype=np.uint16).tolist()
    for row in range(5):
        documents = documents_of(batch, row)
        for number, (ids, middle) in enumerate(documents):
            parts = ids.index(FILLER)
            answer = middle.index(True)
            assert middle == [False] * answer + [True] * (len(ids) - answer)
            suffix, prefix, gap = ids[1:parts], ids[parts + 1 : answer], ids[answer:-1]
            assert (ids[0], ids[-1]) == (BOS, EOS_ID)
            assert 1 <= len(gap) <= LONGEST_MIDDLE
            assert len(suffix) <= SUFFIX_TOKENS
            # The gap's ids encode their position, so the text around them is known.
            begin = gap[0] - FIRST
            assert gap == stream[begin : begin + len(gap)]
            assert not {EOS_ID, BOS} & {*gap}
            assert suffix == stream[begin + len(gap) :][: len(suffix)]
            assert prefix == stream[begin - len(prefix) : begin]
            assert EOS_ID not in suffix[:-1]
            if number < len(documents) - 1:
                assert BOS not in prefix
            else:
                # Only the last document, which fills the row up, may reach into the file before.
                assert BOS not in prefix[SHORTEST_PREFIX + LONGEST_MIDDLE + 3 :]


def test_gaps_end_where_lines_do_and_suffixes_are_mostly_whole(folder: Path) -> None:
    batch = sampler_of(folder, frozenset(), 0).documents(100, 513)
    documents = [document for row in range(100) for document in documents_of(batch, row)]
    assert 150 < len(documents) < 400
    suffixes = [ids[1 : ids.index(FILLER)] for ids, _ in documents]
    at_line_end = [(suffix[0] - FIRST) % LINE == 0 for suffix in suffixes if suffix]
    assert 0.6 < sum(at_line_end) / len(at_line_end) < 0.95
    whole = [len(suffix) == SUFFIX_TOKENS for suffix in suffixes]
    assert 0.4 < sum(whole) / len(whole) < 0.7


def test_the_loss_is_that_of_each_document_read_alone(folder: Path) -> None:
    model = random_model(config_json(4100, sliding_window=1024))
    batch = sampler_of(folder, frozenset({900, 2000}), 1).documents(3, 150)
    with torch.inference_mode():
        loss, middle_loss = fim_loss(model, batch, 4.0)
        values, weights, middles = list[torch.Tensor](), list[torch.Tensor](), list[torch.Tensor]()
        for row in range(3):
            for ids, middle in documents_of(batch, row):
                read = model.logits(
                    TorchCanvasBackend(model).prefill(torch.tensor([ids]), TorchCanvasBackend(model).new_cache())
                )[0].log_softmax(dim=-1)
                values.append(-read[:-1].gather(1, torch.tensor(ids[1:])[:, None]).squeeze(1))
                middles.append(torch.tensor(middle[1:]))
                weights.append(torch.where(middles[-1], 4.0, 1.0))
    value, weight, middle_rows = torch.cat(values), torch.cat(weights), torch.cat(middles)
    torch.testing.assert_close(loss, (value * weight).sum() / weight.sum(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(middle_loss, value[middle_rows].mean(), atol=1e-4, rtol=1e-4)


def test_the_fim_phase_learns_and_resumes_from_its_state(tmp_path: Path) -> None:
    corpus, out = tiny_corpus(tmp_path), tmp_path / "run"
    recipe = Recipe(
        objective="fim",
        minutes=1000,
        hidden=64,
        layers=2,
        intermediate=64,
        batch=2,
        sequence=64,
        warmup_steps=2,
        causal_share=0.5,
    )
    run = Run(recipe, corpus, out, compiled=False)
    causal = [run.step()["causal"] for _ in range(8)]
    assert causal[-1] < causal[0] - 1
    run.progress.seconds = 60 * 600.0
    assert run.phase == "fim"
    middle = [float(run.step()["middle"]) for _ in range(20)]
    assert sum(middle[-3:]) < sum(middle[:3]) - 3
    assert run.progress.tokens == 28 * 2 * 64
    run.save()
    before = run.measure()
    assert before.keys() == {"heldout_fim", "heldout_middle"}
    again = Run(recipe, corpus, out, compiled=False)
    again.resume()
    assert (again.progress, again.phase, again.measure()) == (run.progress, "fim", before)


def test_a_twin_from_the_command_line_to_a_fill(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path)
    (corpus / "manifest.json").write_text("{}")
    sizes = ["--hidden", "64", "--layers", "1", "--intermediate", "64", "--batch", "2", "--sequence", "64"]
    budget = ["--minutes", "0.01", "--causal-share", "0", "--threads", "1", "--eager"]
    places = ["--corpus", str(corpus), "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "midspan.engine.training.train", *places, "--objective", "fim", *sizes, *budget]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert (rows[0]["recipe"]["objective"], rows[-1]["phase"]) == ("fim", "fim")
    package(tmp_path / "run", corpus, tmp_path / "twin")
    assert isinstance(load_infiller(str(tmp_path / "twin"), "cpu"), Autoregressive)
    engine = midspan.engine.load(str(tmp_path / "twin"), "cpu")
    try:
        assert engine.about.layout == "fim"
        fill = engine.fill(Hole(prefix="def total(items, tax):\n    ", suffix="\n"), Budget(candidates=2)).result(60)
        assert fill.text.strip()
        assert len(fill.candidates) == 2
    finally:
        engine.close()


def test_an_unknown_objective_is_refused_and_known_ones_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--corpus", "c", "--out", "o", "--objective", "guess"])
    with pytest.raises(SystemExit, match="2"):
        parse()
    said = capsys.readouterr().err.splitlines()[-1]
    assert all(word in said for word in ("--objective", "guess", "canvas", "fim"))
