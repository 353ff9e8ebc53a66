"""Settings: defaults, values, and one clear line for what cannot be used."""

from __future__ import annotations

import pytest

from midspan.server.settings import Settings, SettingsError, read_settings


@pytest.mark.parametrize("options", [None, {}])
def test_nothing_given_means_defaults(options: object) -> None:
    assert read_settings(options) == Settings(
        enable=True, preview=False, status=False, telemetry=True, steps=8, deadline_ms=1000, show_threshold=None
    )


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
    }
    settings = read_settings(given)
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
        ({"enable": None}, "$.enable"),
        ({"languages": {"go": "yes"}}, "$.languages"),
        ({"languages": ["go"]}, "$.languages"),
        (["preview"], "object"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_mend(options: object, named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings(options)
    message = str(raised.value)
    assert named in message
    assert "known keys: enable, preview" in message
    assert "\n" not in message


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        read_settings(None).steps = 4  # type: ignore[misc]
