"""`midspan.json`: groups, the older flat keys, refusals and their messages, and writing."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import CheckpointError
from midspan.engine.engine import Engine
from midspan.engine.settings import SearchFloor
from midspan.engine.weights.load import EMBEDDED
from midspan.engine.weights.midspan_json import old_keys, read_settings, write_settings
from midspan.engine.weights.old_keys import OLD
from tests.engine.tiny import tiny_checkpoint

# The embedded checkpoint's file in the older flat form, without the optional keys that flat() adds.
FLAT: dict[str, Any] = {
    "layout": "filler",
    "filler_id": 3,
    "slots": [*range(1, 13), 14, 16],
    "block_slots": [8, 16, 24, 32],
    "draws": 1,
    "keep": 4,
    "neighbours": 4,
    "beams": 6,
    "around_beams": 2,
    "prefix_tokens": 256,
    "reuse_suffix": True,
    "steps": 2,
    "t_min": 0.1,
    "t_max": 0.3,
    "entropy_bound": 0.1,
    "confidence_threshold": 0.005,
    "languages": ["python"],
    "show_threshold": 0.54,
    "promising": [-2.0, 2.0],
}


def write(folder: Path, values: object) -> Path:
    (folder / "midspan.json").write_text(json.dumps(values))
    return folder


def refusal(folder: Path) -> str:
    """The one line with which a folder's `midspan.json` is refused, without the file's name."""
    with pytest.raises(CheckpointError) as refused:
        read_settings(folder)
    file, _, said = str(refused.value).partition("midspan.json: ")
    assert file == f"{folder}/"
    assert "\n" not in said
    return said


def flat() -> dict[str, Any]:
    """The embedded checkpoint's settings in the flat form, with the older names of weights and confidences."""
    show = json.loads((EMBEDDED / "midspan.json").read_text())["show"]
    ranking = asdict(read_settings(EMBEDDED).hypotheses.ranking)
    early = show["early_exit"]
    early_ranking = early["ranking"] | {"middle": early["ranking"]["fim"]}
    del early_ranking["fim"]
    return FLAT | {
        "ranking": {"middle" if name == "fim" else name: value for name, value in ranking.items()},
        "calibration": show["calibration"],
        "early_exit": {
            "silent": early["reject"],
            "sure": early["accept"],
            "ranking": early_ranking,
            "calibration": early["calibration"],
        },
    }


def test_flat_keys_give_the_same_settings_and_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, flat())
    with caplog.at_level(logging.WARNING):
        assert read_settings(tmp_path) == read_settings(EMBEDDED)
    assert len(caplog.messages) == 1
    for said in ("keep is now denoise.survivors", "promising is now show.search_floor", "layout is now layout.kind"):
        assert said in caplog.messages[0]
        assert said in old_keys(tmp_path)
    assert len(old_keys(tmp_path)) == len(flat())
    assert old_keys(EMBEDDED) == ()


def test_the_embedded_checkpoint_has_no_old_key(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read_settings(EMBEDDED)
    assert caplog.messages == []


def test_an_engine_lists_its_old_keys(tmp_path: Path) -> None:
    file = tiny_checkpoint(tmp_path) / "midspan.json"
    values = json.loads(file.read_text())
    del values["hypotheses"]
    write(tmp_path, values | {"beams": 2})
    engine = Engine.load(str(tmp_path), "cpu")
    engine.close()
    assert engine.about.old_keys == ("beams is now hypotheses.beams",)


@pytest.mark.parametrize("key", OLD)
def test_an_unusable_old_key_is_refused_under_its_old_and_new_name(tmp_path: Path, key: str) -> None:
    group, name = OLD[key]
    said = refusal(write(tmp_path, flat() | {key: {"no": "use"}} if key != "layout" else flat() | {key: "no use"}))
    assert said.startswith(f"{key} (now {group}.{name}")
    assert "; " in said


@pytest.mark.parametrize("key", [key for key in flat() if key != "layout"])
def test_an_old_key_beside_the_new_one_is_refused(tmp_path: Path, key: str) -> None:
    group, name = OLD[key]
    values = json.loads((EMBEDDED / "midspan.json").read_text())
    said = refusal(write(tmp_path, values | {key: flat()[key]}))
    assert said == f"{key} is an old key beside the new {group}.{name}; take it out"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "not a JSON object"),
        ({}, "layout is missing; give an object"),
        ({"layout": {}}, 'layout.kind is missing; give "filler" or "fim" or "prompted" or "clamped"'),
        ({"layout": {"kind": "clamped"}, "show": "x"}, 'show is "x"; give an object'),
        (
            {"layout": {"kind": "clamped"}, "show": {"show_threshold": 7}},
            "show.show_threshold is 7; give a number from",
        ),
        (
            {"layout": {"kind": "clamped", "slots": [4, 2]}},
            "layout.slots is not in order; give each length once, the shortest first",
        ),
        (
            {"layout": {"kind": "clamped", "slots": [*range(1, 33)]}, "denoise": {"draws": 9}},
            "denoise.draws are 288 canvases with layout.slots; give fewer, for 256 at most",
        ),
        (
            {"layout": {"kind": "clamped"}, "a\n\x1b[31m": 1},
            '"a\\n\\u001b[31m" is an unknown key; known here: layout, denoise, hypotheses, show, quantize',
        ),
    ],
)
def test_an_unusable_value_is_named_with_usable_ones(tmp_path: Path, values: object, said: str) -> None:
    found = refusal(write(tmp_path, values))
    assert found.startswith(said), found


def test_layout_filler_needs_a_filler_id(tmp_path: Path) -> None:
    values = json.loads((EMBEDDED / "midspan.json").read_text())
    del values["layout"]["filler_id"]
    assert refusal(write(tmp_path, values)).startswith("layout.filler_id is missing or -1; give the filler's id")


def test_writing_keeps_other_settings_and_replaces_old_keys_by_new_ones(tmp_path: Path) -> None:
    write_settings(write(tmp_path, flat()), show={"search_floor": {"log_prob": -3.0, "evidence": 1.0}})
    found = read_settings(tmp_path)
    assert found.show.search_floor == SearchFloor(log_prob=-3.0, evidence=1.0)
    assert old_keys(tmp_path) == ()
    assert found.layout == read_settings(EMBEDDED).layout


PLACES = [
    (group, key)
    for group, values in json.loads((EMBEDDED / "midspan.json").read_text()).items()
    for key in (*values, None)
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_anywhere_is_read_or_refused_with_one_line(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str | None], value: object
) -> None:
    values = json.loads((EMBEDDED / "midspan.json").read_text())
    group, key = place
    if key is None:
        values[group] = value
    else:
        values[group][key] = value
    folder = write(tmp_path_factory.mktemp("any"), values)
    try:
        read_settings(folder)
    except CheckpointError as error:
        said = str(error)
        assert said.isprintable()
        assert group in said or "not valid JSON" in said
