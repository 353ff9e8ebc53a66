"""The threshold that a user has applied: for which fills it holds, and who says that it is there."""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from midspan.engine.api import Budget
from midspan.server.backends.configured import NOTHING
from midspan.server.backends.engines import router_over
from midspan.server.calibration.own import Calibration, Own
from midspan.server.checkpoint_watch import digest_of
from midspan.server.cli import main
from midspan.server.commands.doctor import examine_calibration
from midspan.server.inline_completion import threshold_of
from midspan.server.lsp.decisions import NOT_YET
from midspan.server.models.configuration import Configuration, configuration_file, write_configuration
from midspan.server.router.router import Router
from midspan.server.settings import ServeOptions, Settings
from midspan.server.why import reasons
from tests.server.inside import Inside
from tests.server.raw_client import URI, call, talking_to
from tests.server.router.fakes import BETWEEN, LINE_END, Clock, Fake, local, means, member
from tests.server.scripted import ABOUT, ScriptedEngine

OWN = Own(threshold=0.4, bias=-1.0, slope=1.0, seen=1234, taken=300)
GO = Own(threshold=0.7, bias=-2.0, slope=1.0, seen=400, taken=50)
CALIBRATIONS = {"00ff": Calibration(every=OWN, languages={"go": GO})}
DOCUMENT = {"uri": URI, "languageId": "python", "version": 1, "text": "x = "}
WORDS = "0.40, from 1,234 suggestions of your own record (of suggestions as sure as that 20% are taken)"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file of a home of the test's own; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return configuration_file(os.environ)


def needed(language: str, name: str = "", digest: str = "00ff", chosen: float | None = None) -> float:
    """The threshold in a session whose checkpoint has this digest, of the local engine or the one elsewhere."""
    session: Any = SimpleNamespace(
        settings=Settings(show_threshold=chosen),
        options=ServeOptions(
            checkpoint="scripted", device="cpu", state_dir=Path(), log_file=None, calibrations=CALIBRATIONS
        ),
        digest=digest,
    )
    elsewhere = replace(ABOUT, checkpoint="far", show_threshold=0.9)
    engine: Any = SimpleNamespace(about_of=lambda name: elsewhere if name == "far" else ABOUT)
    return threshold_of(session, engine, language, name)


def test_it_holds_for_the_local_checkpoint_of_its_digest_unless_the_settings_choose() -> None:
    assert needed("python") == OWN.threshold
    assert needed("go") == GO.threshold
    assert needed("go", "diffusion") == GO.threshold
    assert needed("python", "far") == 0.9
    assert needed("python", digest="") == ABOUT.show_threshold
    assert needed("python", chosen=0.1) == 0.1


def test_among_several_engines_the_local_one_is_asked_by_it_and_others_by_their_own() -> None:
    clock = Clock()
    here, there = Fake(clock, takes_s=0.05), Fake(clock, takes_s=0.05)
    router = Router([local(here), member("there", there)], means=means(clock))
    for hole in (BETWEEN, LINE_END):
        router.fill(hole, Budget(deadline_s=1.0, min_confidence=0.123))
        clock.pass_by(1.0)
    assert [budget.min_confidence for _, budget, *_ in here.asked] == [0.123]
    assert [budget.min_confidence for _, budget, *_ in there.asked] == [there.about.show_threshold]


def test_doctor_says_that_it_is_the_users_own(file: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    digest = digest_of(str(model))
    write_configuration(file, Configuration(calibrations={digest: CALIBRATIONS["00ff"]}))
    found: dict[str, Any] = {"fixes": []}
    examine_calibration(found, str(model), file)
    assert found == {"fixes": [], "own_threshold": f"{WORDS}; go 0.70; midspan calibrate --undo goes back"}
    model.write_bytes(b"another")
    found = {"fixes": []}
    examine_calibration(found, str(model), file)
    assert found == {"fixes": []}
    file.write_text("{")
    examine_calibration(found, str(model), file)
    [fix] = found["fixes"]
    assert fix.startswith(f"{file}: ")


def test_the_server_gets_it_at_its_start(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_configuration(file, Configuration(calibrations=CALIBRATIONS))
    started = list[ServeOptions]()

    def serve(options: ServeOptions) -> int:
        started.append(options)
        return 0

    monkeypatch.setattr("midspan.server.app.serve", serve)
    assert main(["serve", "--state-dir", str(tmp_path)]) == 0
    assert (started[0].calibrations, started[0].uncalibrated) == (CALIBRATIONS, None)


def test_who_asks_why_is_told(tmp_path: Path) -> None:
    inside, digest = Inside(tmp_path), Future[str]()
    inside.initialize()
    inside.server.engine = router_over(ScriptedEngine(), NOTHING)
    inside.server.options = replace(inside.server.options, calibrations=CALIBRATIONS)
    inside.server._digest = digest
    inside.send(call(None, "textDocument/didOpen", {"textDocument": DOCUMENT}))
    assert reasons(inside.server, URI) == [NOT_YET]
    digest.set_result("00ff")
    assert reasons(inside.server, URI) == [
        f"show_threshold is {WORDS}; midspan calibrate --undo goes back", NOT_YET,
    ]  # fmt: skip
    inside.server.settings = Settings(show_threshold=0.3)
    assert reasons(inside.server, URI) == [NOT_YET]
    inside.server.engine.close()


def test_a_file_that_cannot_be_read_is_said_in_the_editor_whatever_the_checkpoint(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir(parents=True)
    file.write_text('{"calibrations": {"00ff": 1}}')
    serve = [sys.executable, "-m", "midspan.server", "serve", "--checkpoint", str(tmp_path / "none")]
    with talking_to([*serve, "--state-dir", str(tmp_path / "state")]) as client:
        client.initialize({"status": True})
        client.send(call(None, "initialized", {}))
        said = client.notification("window/showMessage")["message"]
        client.kept.clear()
        client.send(call(None, "exit"))
        client.process.wait(60)
    assert said.startswith(f"midspan: {file}: Expected `object`, got `int`")
