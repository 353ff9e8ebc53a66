"""Continued training of a tiny base: learning, saving, resuming, measuring."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from midspan.engine.llama import rotations
from midspan.engine.marks_settings import read_marks_settings
from midspan.engine.prompts.templates import templates
from midspan.engine.training.continued.heldout import exact_matches, gap_losses, heldout_gaps
from midspan.engine.training.continued.layers import long_layer, short_layer
from midspan.engine.training.continued.recipes import Recipe, RowRecipe
from midspan.engine.training.continued.run import Run
from midspan.engine.training.continued.state import STATE
from midspan.engine.training.continued.texts import Corpus, Text
from midspan.engine.training.continued.train import Log, Stop, train
from midspan.engine.weights.load_llama import open_llama
from tests.engine.llama_tiny import SOURCE, write_checkpoint

SHORT = RowRecipe(tokens=80, longest_gap=24, suffix_tokens=16)
LONG = RowRecipe(tokens=160, longest_gap=48, suffix_tokens=32)
# On these tests' clock a step takes a minute: steps 0 to 7 have short rows, later ones long rows.
RECIPE = Recipe(
    minutes=12, short=SHORT, long=LONG, batch_tokens=320, positions=96, rate=3e-3, warmup_steps=2, save_minutes=3,
    measure_minutes=5, measure_rows=2,
)  # fmt: skip


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "base")


@pytest.fixture
def corpus() -> Corpus:
    names = ("total", "mean", "largest", "smallest")
    texts = [SOURCE.replace("total", name) for name in names]
    return Corpus(
        [Text(language="python", package="shop", path=f"{n}.py", text=t) for n, t in zip(names, texts, strict=True)]
    )


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def minutes() -> Callable[[], float]:
    """A clock that advances by a minute whenever it is read."""
    ticks = count(step=60)
    return lambda: float(next(ticks))


def begun(base: Path, corpus: Corpus, out: Path, recipe: Recipe = RECIPE) -> Run:
    out.mkdir(exist_ok=True)
    run = Run(recipe, base, corpus, out, minutes())
    run.resume()
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: master.detach().clone() for name, master in run.masters.items()}


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_never_stopped(
    base: Path, corpus: Corpus, tmp_path: Path
) -> None:
    whole = begun(base, corpus, tmp_path / "whole")
    for _ in range(10):
        whole.step()
    parts = begun(base, corpus, tmp_path / "parts")
    for _ in range(4):
        parts.step()
    parts.save()
    again = begun(base, corpus, tmp_path / "parts")
    for _ in range(6):
        again.step()
    assert (again.progress.step, again.progress.restarts) == (10, 1)
    assert again.sizes == LONG
    for name, expected in weights(whole).items():
        assert torch.equal(expected, weights(again)[name]), name


def test_a_run_learns_and_its_exported_folder_opens(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    run = begun(base, corpus, tmp_path / "run", replace(RECIPE, minutes=60, rate=1e-2))
    first = run.step()
    for _ in range(59):
        last = run.step()
    assert last["gap_byte"] < 0.6 * first["gap_byte"]
    run.export(tmp_path / "out")
    network = open_llama(tmp_path / "out", torch.bfloat16)
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert read_marks_settings(tmp_path / "out" / "midspan.json").layout.template in templates()
    assert tokenizer.get_vocab_size() == network.config.vocab_size
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, run.masters[name].bfloat16())


def test_the_rate_rises_stays_and_falls_and_a_longer_run_goes_on(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    run = begun(base, corpus, tmp_path / "run")
    rates = []
    for _ in range(12):
        run.step()
        rates.append(run.optimiser.param_groups[0]["lr"] / RECIPE.rate)
    assert rates[0] == 0.5
    assert rates[1:8] == [1.0] * 7
    assert all(later < earlier for earlier, later in pairwise(rates[8:]))
    run.save()
    longer = begun(base, corpus, tmp_path / "run", replace(RECIPE, minutes=40))
    longer.step()
    assert longer.optimiser.param_groups[0]["lr"] == RECIPE.rate
    undecayed = begun(base, corpus, tmp_path / "run", replace(RECIPE, decay_share=0.0))
    undecayed.step()
    assert undecayed.optimiser.param_groups[0]["lr"] == RECIPE.rate


def test_the_command_saves_measures_and_logs(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    run = begun(base, corpus, tmp_path / "run")
    train(run, corpus, Log(run.out), Stop())
    rows = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    events = [row.get("event") for row in rows]
    assert events[-1] == "finished"
    assert "measured" in events
    assert all("python_byte" in row for row in rows if row.get("event") is None)
    assert rows[-1]["cpu_minutes"] >= RECIPE.minutes
    assert set(load_file(run.out / "checkpoint" / "model.safetensors")) == set(run.masters)


def test_sigterm_saves_and_ends(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    run, stop = begun(base, corpus, tmp_path / "run"), Stop()
    signal.raise_signal(signal.SIGTERM)
    train(run, corpus, Log(run.out), stop)
    assert json.loads((run.out / "log.jsonl").read_text().splitlines()[-1])["event"] == "stopped"
    assert (run.out / STATE).exists()


def test_a_kill_while_the_state_is_written_leaves_the_older_state(
    base: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(base, corpus, tmp_path / "run")
    run.step()
    run.save()

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    run.step()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run.save()
    assert begun(base, corpus, tmp_path / "run").progress.step == 1


def test_short_and_long_attention_agree(base: Path) -> None:
    network = open_llama(base)
    with torch.no_grad():
        x, rope = torch.randn(2, 21, 32), rotations(network.config, 0, 21, torch.float32)
        for layer in network.model.blocks():
            # float32 sums of at most 48 products of order one, twice, in different order: 48 * 2 * 2**-24 * 4.
            torch.testing.assert_close(short_layer(layer, x, rope), long_layer(layer, x, rope), atol=3e-5, rtol=3e-5)


def test_heldout_gaps_are_always_the_same_and_their_losses_fall(base: Path, corpus: Corpus, tmp_path: Path) -> None:
    assert heldout_gaps(corpus, "python", 6) == heldout_gaps(corpus, "python", 6)
    run = begun(base, corpus, tmp_path / "run", replace(RECIPE, minutes=150, rate=1e-2))
    untaught = gap_losses(run.network, run.builder(), corpus, 8)["python"]
    for _ in range(150):
        run.step()
    assert gap_losses(run.network, run.builder(), corpus, 8)["python"] < 0.6 * untaught
    right = exact_matches(run.network, run.builder(), corpus, 6)["python"]
    assert right["rest"] >= 0.5
