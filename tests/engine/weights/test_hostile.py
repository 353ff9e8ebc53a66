"""Hostile checkpoint folders are refused at load, with one line that names key or file, in bounded memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Budget, CheckpointError
from midspan.engine.engine import load_infiller
from midspan.engine.hypotheses.task import PATIENT
from midspan.engine.weights.load import EMBEDDED
from midspan.server.cli import main
from tests.engine.tiny import tiny_checkpoint
from tests.engine.weights.hostile import DEEP, HOSTILE, changed, holding, link, put
from tests.engine.weights.hostile_loads import HOLE

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(300)
# Folders that are tried with the real commands as well.
FEW = {
    "ids": (changed("config.json", "text_config.vocab_size", "2147483648"), "text_config.vocab_size is 2147483648"),
    "draws": (changed("midspan.json", "denoise.draws", "10000000"), "denoise.draws is 10000000"),
    "deep": (holding("tokenizer.json", b"[" * DEEP), "tokenizer.json: not valid JSON"),
}


class Outcome(NamedTuple):
    """How loading a folder ended."""

    kind: str
    said: str


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The outcome of every hostile folder by its number, and of two good ones by name."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "control").mkdir()
    link(root / "control", EMBEDDED)
    (root / "tiny").mkdir()
    tiny_checkpoint(root / "tiny")
    for number, hostile in enumerate(HOSTILE):
        (root / str(number)).mkdir()
        hostile.make(root / str(number))
    script = Path(__file__).with_name("hostile_loads.py")
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(root)], capture_output=True, text=True, env=environment, timeout=200
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["name"]: Outcome(row["kind"], row["said"]) for row in rows}


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=[hostile.name for hostile in HOSTILE])
def test_a_hostile_folder_is_refused_with_one_line(outcomes: dict[str, Outcome], number: int) -> None:
    kind, said = outcomes[str(number)]
    assert kind == "CheckpointError", said
    assert said.isprintable()
    assert len(said) < 600
    assert HOSTILE[number].named in said


@pytest.mark.parametrize("name", ["control", "tiny"])
def test_the_folders_they_are_made_from_fill(outcomes: dict[str, Outcome], name: str) -> None:
    assert outcomes[name].kind == "filled", outcomes[name].said


def test_there_are_many_hostile_folders_with_distinct_names() -> None:
    assert len(HOSTILE) >= 150
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE)


Said = tuple[int, str, str]


def said_apart(capsys: pytest.CaptureFixture[str], argv: list[str]) -> Said:
    """Exit code, stdout and stderr of a command in a process of its own."""
    command = [sys.executable, "-m", "midspan.server", *argv]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "src", timeout=100)
    return done.returncode, done.stdout, done.stderr


def said_here(capsys: pytest.CaptureFixture[str], argv: list[str]) -> Said:
    """The same of a command in this process."""
    return (main(argv), *capsys.readouterr())


@pytest.mark.parametrize(("name", "said"), [("ids", said_here), ("draws", said_here), ("deep", said_apart)])
def test_fill_and_doctor_report_a_hostile_folder_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: Callable[..., Said]
) -> None:
    make, named = FEW[name]
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder")
    (tmp_path / "file.py").write_text("x = 1\n")
    common = ["--checkpoint", str(tmp_path / "folder"), "--device", "cpu", "--state-dir", str(tmp_path)]
    code, out, err = said(capsys, ["fill", str(tmp_path / "file.py"), "--at", "1:5", *common])
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert named in err
    code, out, err = said(capsys, ["doctor", *common])
    assert (code, err) == (1, "")
    assert out.count(named) == 1


NUMBERS: st.SearchStrategy[object] = (
    st.integers(-3, 300) | st.integers() | st.floats() | st.booleans() | st.none() | st.text(max_size=3) | st.just([])
)
PATHS = [
    ("config.json", path)
    for path in (
        *("canvas_length", "text_config.vocab_size", "text_config.hidden_size", "text_config.intermediate_size"),
        *("text_config.num_hidden_layers", "text_config.num_attention_heads", "text_config.num_key_value_heads"),
        *("text_config.head_dim", "text_config.global_head_dim", "text_config.num_global_key_value_heads"),
        *("text_config.num_experts", "text_config.top_k_experts", "text_config.moe_intermediate_size"),
        *("text_config.sliding_window", "text_config.rms_norm_eps", "text_config.final_logit_softcapping"),
        *("text_config.layer_types[1]", "text_config.rope_parameters.full_attention.rope_theta"),
    )
] + [
    ("midspan.json", path)
    for path in (
        *("layout.slots[0]", "layout.block_slots[1]", "layout.prefix_tokens", "layout.filler_id", "denoise.draws"),
        *("layout.context_tokens", "layout.suffix_tokens", "denoise.survivors", "denoise.t_min", "denoise.t_max"),
        *("denoise.entropy_bound", "denoise.confidence_threshold", "hypotheses.beams", "hypotheses.similar_lines"),
        *("hypotheses.length_slack", "show.show_threshold", "show.calibration[3]", "hypotheses.ranking.suffix"),
    )
]


@given(place=st.sampled_from(PATHS), value=NUMBERS)
def test_any_number_anywhere_is_refused_with_one_line_or_fills(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], value: object
) -> None:
    folder, (file, path) = tiny_checkpoint(tmp_path_factory.mktemp("any")), place
    values = json.loads((folder / file).read_text())
    put(values, path, value)
    (folder / file).write_text(json.dumps(values))
    said = refusal(folder)
    assert said is None or said.isprintable()


def refusal(folder: Path) -> str | None:
    """The line with which a folder is refused; None if it loads, after two fills."""
    try:
        infiller = load_infiller(str(folder), "cpu")
    except CheckpointError as error:
        return str(error)
    infiller.infill(HOLE, Budget(seed=1, min_confidence=1.0), PATIENT)
    infiller.infill(HOLE, Budget(seed=1), PATIENT)
    return None
