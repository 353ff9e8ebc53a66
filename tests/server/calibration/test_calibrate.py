"""`midspan calibrate`: what it proposes from a record, what that would have done, how it is taken and given back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midspan.server.calibration.own import own_for
from midspan.server.calibration.proposal import LEAST_EACH, LEAST_SEEN
from midspan.server.checkpoint_watch import digest_of
from midspan.server.cli import main
from midspan.server.models.configuration import Configuration, configuration_file, read_configuration
from tests.engine.llama_tiny import marked_checkpoint
from tests.server.calibration.used import CONFIDENCES, make_used

# Of the checkpoint.
SHIPPED = 0.4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return marked_checkpoint(tmp_path_factory.mktemp("model") / "checkpoint")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file of a home of the test's own; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return configuration_file(os.environ)


@pytest.fixture
def calibrate(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path, checkpoint: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command on the checkpoint and a state folder `state`; returns its exit code and what it printed."""

    def run(*argv: str) -> tuple[int, str, str]:
        state = str(tmp_path / "state")
        code = main(["calibrate", "--checkpoint", str(checkpoint), "--device", "cpu", "--state-dir", state, *argv])
        return code, *capsys.readouterr()

    return run


def use(tmp_path: Path, checkpoint: Path, share: Callable[[float], float], **more: Any) -> None:
    make_used(tmp_path / "state", digest_of(str(checkpoint)), share, **more)


def threshold(found: dict[str, Any]) -> float:
    value: float = found["effects"][0]["threshold"]
    return value


def test_what_is_seldom_taken_is_not_shown_any_more(
    calibrate: Callable[..., tuple[int, str, str]], tmp_path: Path, checkpoint: Path
) -> None:
    use(tmp_path, checkpoint, lambda sure: 0.04 if sure < 0.8 else 0.6)
    code, out, _ = calibrate("--json")
    found = json.loads(out)
    every = found["effects"][0]
    assert code == 0
    assert 0.75 < threshold(found) < 0.85
    assert every["seen"]["count"] == 50 * len(CONFIDENCES)
    assert (every["would_stay"]["count"], every["would_stay"]["taken"]) == (100, pytest.approx(0.6))
    assert (every["would_go"]["count"], every["would_go"]["taken"]) == (150, pytest.approx(0.04))
    assert every["would_go"]["ci95"][0] < 0.04 < every["would_go"]["ci95"][1]
    assert every["would_come"]["count"] == 0
    assert not found["applied"]


def test_where_the_least_sure_are_taken_more_is_shown(
    calibrate: Callable[..., tuple[int, str, str]], tmp_path: Path, checkpoint: Path
) -> None:
    use(tmp_path, checkpoint, lambda sure: 0.6)
    _, out, _ = calibrate("--json")
    every = json.loads(out)["effects"][0]
    # No lower than the record reaches, and half a unit of log-odds.
    assert every["threshold"] == pytest.approx(0.288, abs=0.001)
    assert every["would_come"]["count"] == 10
    low, high = every["would_come"]["ci95"]
    assert low < every["would_come"]["taken"] < high
    assert every["would_go"] == {"count": 0, "taken": None, "ci95": None}


def test_a_language_has_its_own_once_there_is_enough(
    calibrate: Callable[..., tuple[int, str, str]], tmp_path: Path, checkpoint: Path
) -> None:
    use(tmp_path, checkpoint, lambda sure: 0.5)
    use(tmp_path, checkpoint, lambda sure: 0.1, language="go")
    use(tmp_path, checkpoint, lambda sure: 0.1, language="rust", each=10)
    _, out, _ = calibrate("--json", "--apply")
    found = json.loads(out)
    by = {one["language"]: one["threshold"] for one in found["effects"]}
    assert by.keys() == {"", "python", "go"}
    assert by["python"] < by[""] < by["go"]
    assert found["too_thin"] == {"rust": "50 suggestions were seen and 5 taken; it needs 150 more seen, 15 more taken"}
    calibrations = read_configuration(configuration_file(os.environ)).calibrations
    for language, wanted in (("go", by["go"]), ("rust", by[""]), ("python", by["python"])):
        own = own_for(calibrations, digest_of(str(checkpoint)), language)
        assert own is not None
        assert own.threshold == wanted
    assert own_for(calibrations, "of another checkpoint", "go") is None


def test_the_page_says_what_would_have_been(
    calibrate: Callable[..., tuple[int, str, str]], tmp_path: Path, checkpoint: Path
) -> None:
    use(tmp_path, checkpoint, lambda sure: 0.04 if sure < 0.8 else 0.6)
    _, out, _ = calibrate()
    lines = out.splitlines()
    assert max(map(len, lines)) <= 200
    assert f"all languages    show_threshold {SHIPPED:.2f} -> 0." in out
    assert "  would stay           100, taken 60 % (50 to 69)" in lines
    assert "  would go             150, taken 4 % (2 to 8)" in lines
    assert lines[-1] == "take it with: midspan calibrate --apply"


def test_what_was_applied_is_taken_back_by_one_command_and_nothing_else_is_lost(
    calibrate: Callable[..., tuple[int, str, str]], tmp_path: Path, checkpoint: Path, file: Path
) -> None:
    use(tmp_path, checkpoint, lambda sure: 0.3)
    assert main(["models", "use", "embedded"]) == 0
    assert calibrate("--undo")[2].endswith("nothing was applied to it; midspan calibrate --apply does\n")
    assert "go back with: midspan calibrate --undo" in calibrate("--apply")[1]
    applied = read_configuration(file)
    assert applied.checkpoint == "embedded"
    [own] = [one.every for one in applied.calibrations.values()]
    assert (own.seen, own.taken) == (250, 75)
    # To choose a model keeps what was calibrated.
    assert main(["models", "use", "embedded"]) == 0
    assert read_configuration(file) == applied
    code, out, _ = calibrate("--undo")
    assert (code, read_configuration(file)) == (0, Configuration(checkpoint="embedded"))
    assert out.endswith("has its shipped threshold again; restart midspan in editors that are open\n")


@pytest.mark.parametrize(
    ("each", "share", "lack"),
    [
        (20, 0.5, f"100 suggestions were seen and 50 taken; it needs {LEAST_SEEN - 100} more seen"),
        (50, 0.04, f"250 suggestions were seen and 10 taken; it needs {LEAST_EACH - 10} more taken"),
        (50, 0.98, f"250 suggestions were seen and 245 taken; it needs {LEAST_EACH - 5} more not taken"),
    ],
)
def test_a_record_that_is_too_thin_is_one_line_that_says_how_much_is_missing(
    calibrate: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    checkpoint: Path,
    each: int,
    share: float,
    lack: str,
) -> None:
    use(tmp_path, checkpoint, lambda sure: share, each=each)
    code, out, err = calibrate("--apply")
    assert (code, out) == (1, "")
    assert err == f"midspan: too thin to calibrate: {lack}; use midspan on, and try again\n"
    assert not configuration_file(os.environ).exists()


def test_without_a_record_or_files_there_is_one_line(
    calibrate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = calibrate()
    assert (code, err.count("\n")) == (1, 1)
    assert "no suggestion was logged there yet" in err
    code, _, err = calibrate("--checkpoint", str(tmp_path / "nothing"))
    assert (code, err.count("\n")) == (1, 1)
    assert "give --checkpoint a folder or a GGUF file" in err


@pytest.mark.parametrize("argv", [("--worth", "0"), ("--worth", "most"), ("--apply", "--undo")])
def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *argv])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
