"""Settings: defaults, values, and one line that names invalid settings, while all others apply."""

from __future__ import annotations

import pytest

from midspan.server.settings import Settings, changed_settings, read_settings

# The empty list is how Lua's empty table arrives.
NOTHING: list[object] = [None, {}, [], {"languages": []}, {"trace": "off"}, dict.fromkeys(Settings.__struct_fields__)]


@pytest.mark.parametrize("options", NOTHING)
def test_empty_options_give_the_defaults(options: object) -> None:
    reading = read_settings(options)
    assert reading.problem is None
    assert reading.settings == Settings(
        enable=True, preview=False, status=False, telemetry=True, steps=None, deadline_ms=1000, show_threshold=None
    )


@pytest.mark.parametrize("section", NOTHING[:3])
def test_an_empty_section_keeps_the_initial_options(section: object) -> None:
    first = read_settings({"steps": 3})
    reading = changed_settings(first.settings, first.options, section, "here")
    assert (reading.settings, reading.problem) == (Settings(steps=3), None)


def test_null_gives_the_default_even_over_the_initial_options() -> None:
    first = read_settings({"steps": 3, "preview": True})
    assert changed_settings(first.settings, first.options, {"steps": None}, "here").settings == Settings(preview=True)


def test_every_key_is_read() -> None:
    given = {
        "enable": False,
        "preview": True,
        "status": True,
        "telemetry": False,
        "steps": 3,
        "deadline_ms": 250,
        "show_threshold": 0.5,
        "languages": {"go": True, "python": False},
        "schemas": {"*.toml": "schema.json"},
    }
    settings = read_settings(given).settings
    assert {key: getattr(settings, key) for key in given} == given


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"previw": True}, "previw"),
        ({"preview": "yes"}, "$.preview"),
        ({"steps": 0}, "$.steps"),
        ({"steps": 2.5}, "$.steps"),
        ({"deadline_ms": -1}, "$.deadline_ms"),
        ({"show_threshold": 2}, "$.show_threshold"),
        ({"enable": []}, "$.enable"),
        ({"languages": {"go": "yes"}}, "$.languages"),
        ({"languages": ["go"]}, "$.languages"),
        ({"schemas": {"*.toml": 1}}, "$.schemas"),
        (["preview"], "object"),
        ("preview", "object"),
        (1, "object"),
    ],
)
def test_invalid_settings_are_named_with_the_known_keys(options: object, named: str) -> None:
    reading = read_settings(options)
    assert reading.settings == Settings()
    assert reading.problem is not None
    assert named in reading.problem
    assert "known keys: enable, preview" in reading.problem
    assert "\n" not in reading.problem


def test_valid_settings_apply_beside_invalid_ones_which_are_all_named() -> None:
    reading = read_settings({"exclude": ["secret.py"], "typo": 1, "telemetry": False, "steps": 0, "statsu": True})
    assert reading.settings == Settings(exclude=("secret.py",), telemetry=False)
    assert reading.problem is not None
    for named in ("initializationOptions", "'typo', 'statsu'", "$.steps"):
        assert named in reading.problem


def test_a_changed_key_with_an_invalid_value_keeps_its_old_value() -> None:
    first = read_settings({"exclude": ["a.py"], "steps": 3})
    before = changed_settings(first.settings, first.options, {"exclude": ["b.py"]}, "here").settings
    after = changed_settings(before, first.options, {"exclude": 7, "preview": True}, "here")
    assert after.settings == Settings(exclude=("b.py",), steps=3, preview=True)
    assert after.problem is not None
    assert after.problem.startswith("here: ")
    assert "$.exclude" in after.problem
    for nothing in (["x"], "x", 1):
        assert changed_settings(before, first.options, nothing, "here").settings == before


@pytest.mark.parametrize(
    ("section", "privacy", "refused"),
    [
        ({}, "loopback", False),
        ({"privacy": None}, "loopback", False),
        ({"privacy": "in_process"}, "in_process", False),
        ({"privacy": "loopback"}, "loopback", False),
        ({"privacy": "private"}, "loopback", True),
        ({"privacy": "public"}, "loopback", True),
    ],
)
def test_what_comes_later_only_narrows_privacy(section: object, privacy: str, refused: bool) -> None:
    first = read_settings({"privacy": "loopback"})
    narrow = changed_settings(first.settings, first.options, {"privacy": "in_process"}, "here").settings
    reading = changed_settings(narrow, first.options, section, "here")
    assert reading.settings.privacy == privacy
    assert (reading.problem is not None) == refused
    assert not refused or "narrow the loopback that it began with; change your own" in str(reading.problem)


def test_settings_are_immutable() -> None:
    with pytest.raises(AttributeError):
        read_settings(None).settings.steps = 4  # type: ignore[misc]


def test_malformed_privacy_settings_are_read_in_the_private_way() -> None:
    reading = read_settings({"exclude": "secrets", "disable": "*.md", "telemetry": "no"})
    assert reading.settings == Settings(exclude=("secrets",), disable=("*.md",), telemetry=False)
    assert reading.problem is not None
    assert "telemetry" in reading.problem.partition("; everything else")[0]
    assert "exclude" not in reading.problem.partition("; everything else")[0]
