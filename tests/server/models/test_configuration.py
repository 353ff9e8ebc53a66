"""Which checkpoint is taken: `--checkpoint`, else the configuration file, else the embedded model."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.server.cli import main
from midspan.server.commands.errors import CommandError
from midspan.server.models.configuration import (
    Choice,
    Configuration,
    choose,
    configuration_file,
    read_configuration,
    write_configuration,
)
from tests.engine.weights.test_gguf import write_gguf
from tests.server.raw_client import call, talking_to

NAMES = st.none() | st.text(min_size=1, max_size=40)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file of a home of the test's own; it is not there yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return configuration_file(os.environ)


def test_a_bad_configuration_is_said_in_the_editor(file: Path, tmp_path: Path) -> None:
    """The server answers its client, which would see no line on stderr."""
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with talking_to(
        [sys.executable, "-m", "midspan.server", "serve", "--state-dir", str(tmp_path / "state")]
    ) as client:
        client.initialize({"status": True})
        client.send(call(None, "initialized", {}))
        said = client.notification("window/showMessage")["message"]
        assert client.leave() == 0
    assert said.startswith(f"midspan: {file}: ")
    assert said.endswith("run midspan models use embedded")


def test_a_file_that_is_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles" / "midspan.json"
    kept.parent.mkdir()
    kept.write_text("{}")
    file.parent.mkdir(parents=True)
    file.symlink_to(kept)
    write_configuration(file, Configuration(checkpoint="some"))
    assert file.is_symlink()
    assert json.loads(kept.read_text()) == {"checkpoint": "some"}


@given(named=NAMES, written=NAMES)
def test_the_option_comes_before_the_file_and_the_file_before_the_default(
    tmp_path_factory: pytest.TempPathFactory, named: str | None, written: str | None
) -> None:
    file = tmp_path_factory.mktemp("config") / "config.json"
    if written is not None:
        write_configuration(file, Configuration(checkpoint=written))
    if named is not None:
        assert choose(named, file) == Choice(named, "--checkpoint")
    elif written is not None:
        assert choose(named, file) == Choice(written, str(file))
    else:
        assert choose(named, file) == Choice("embedded", "the default")


def test_the_file_is_where_the_platform_keeps_such_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configuration_file({"XDG_CONFIG_HOME": "/x"}) == Path("/x/midspan/config.json")
    for platform, place in (("linux", ".config"), ("darwin", "Library/Application Support")):
        monkeypatch.setattr(sys, "platform", platform)
        assert configuration_file({}) == Path.home() / place / "midspan" / "config.json"
    monkeypatch.setattr(sys, "platform", "win32")
    assert configuration_file({"APPDATA": "/roaming"}) == Path("/roaming/midspan/config.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"checkpoint": 3}', "Expected `str | null`, got `int` - at `$.checkpoint`"),
        (b'{"checkpoint": ""}', "Expected `str` of length >= 1 - at `$.checkpoint`"),
        (b'{"checkpiont": "x"}', "Object contains unknown field `checkpiont`"),
        (b'{"checkpoint": "\xff"}', "can't decode"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_the_fix(
    capsys: pytest.CaptureFixture[str], file: Path, content: bytes, said: str
) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(CommandError, match=r"run midspan models use embedded$"):
        read_configuration(file)
    (file.parent / "a.py").write_text("x = 1")
    assert main(["fill", str(file.parent / "a.py"), "--at", "1:5"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"midspan: {file}: ")
    assert error.count("\n") == 1
    # The fix that it names works.
    assert main(["models", "use", "embedded"]) == 0
    assert read_configuration(file) == Configuration(checkpoint="embedded")


def test_a_file_that_may_not_be_read_or_written_is_one_line(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(CommandError, match="Is a directory; make it readable or remove it"):
        read_configuration(file)
    with pytest.raises(CommandError, match="make its folder writable"):
        write_configuration(file, Configuration())
    assert [path.name for path in file.parent.iterdir()] == ["config.json"], "nothing is left beside it"


def test_a_model_that_is_used_fills_and_doctor_says_who_chose_it(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    (tmp_path / ".cache" / "llama.cpp").mkdir(parents=True)
    model = write_gguf(tmp_path / ".cache" / "llama.cpp")
    text = tmp_path / "a.py"
    text.write_text("x = \n")
    assert main(["models", "use", "tiny"]) == 0
    assert capsys.readouterr().out == (
        f"tiny is taken from now on, by {file}; restart midspan in editors that are open\n"
    )
    assert json.loads(file.read_text()) == {"checkpoint": str(model)}
    fill = ["fill", str(text), "--at", "1:5", "--json", "--device", "cpu"]
    for more, taken in (([], str(model)), (["--checkpoint", "embedded"], "embedded")):
        assert main([*fill, *more]) == 0
        assert json.loads(capsys.readouterr().out)["checkpoint"] == taken
    assert main(["doctor", "--json", "--device", "cpu", "--state-dir", str(tmp_path / "state")]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert (found["checkpoint"], found["chosen_by"]) == (str(model), str(file))
    assert main(["models", "--no-estimate"]) == 0
    listed = capsys.readouterr().out
    assert "\n* tiny" in listed
    assert f"In use (*): {model}, by {file}\n" in listed


def test_a_model_that_is_used_and_gone_is_one_line(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.gguf"
    write_configuration(file, Configuration(checkpoint=str(gone)))
    (tmp_path / "a.py").write_text("x = 1")
    assert main(["fill", str(tmp_path / "a.py"), "--at", "1:5"]) == 1
    fix = "run midspan models use embedded, or another of midspan models"
    assert capsys.readouterr().err == f"midspan: {file}: its checkpoint {gone} is gone; {fix}\n"
    assert main(["models", "--no-estimate"]) == 0
    assert f"In use (*): {gone}, which is gone, by {file}\n" in capsys.readouterr().out


def test_a_name_that_two_models_have_is_asked_about(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    paths = [write_gguf(tmp_path / ".lmstudio" / "models" / name) for name in ("a", "b") if make(tmp_path, name)]
    assert main(["models", "use", "tiny"]) == 1
    several = f"several have this name; give one by its path: {paths[0]}, {paths[1]}"
    assert capsys.readouterr().err == f"midspan: tiny: {several}\n"
    assert main(["models", "use", str(paths[1])]) == 0
    assert read_configuration(file).checkpoint == str(paths[1])


def make(home: Path, name: str) -> bool:
    """Make a folder of LM Studio's."""
    (home / ".lmstudio" / "models" / name).mkdir(parents=True)
    return True


def test_what_is_not_at_hand_can_be_neither_used_nor_removed(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    for verb in ("use", "remove"):
        assert main(["models", verb, "../nothing"]) == 1
        said = "midspan: ../nothing: not at hand; midspan models lists what is, and what can be fetched\n"
        assert capsys.readouterr().err == said
    assert not file.exists()


def test_what_other_programs_keep_is_not_removed(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    make(tmp_path, "a")
    model = write_gguf(tmp_path / ".lmstudio" / "models" / "a")
    assert main(["models", "remove", "tiny"]) == 1
    assert capsys.readouterr().err == "midspan: tiny: LM Studio keeps it; remove it there\n"
    assert model.exists()
    assert main(["models", "remove", "embedded"]) == 1
    assert capsys.readouterr().err == "midspan: embedded: it is part of midspan\n"
