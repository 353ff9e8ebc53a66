"""Settings that change while the server runs, and the states that its status shows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from midspan.server.lsp.status import Status
from midspan.server.settings import Settings, changed_settings, read_settings, section_of
from midspan.server.telemetry.schema import FILE_NAME
from tests.server.raw_client import Message, RawClient, call, complete, connected
from tests.server.scripted import TEXT


def configure(client: RawClient, settings: Any) -> None:
    client.send(call(None, "workspace/didChangeConfiguration", {"settings": settings}))


@pytest.mark.parametrize(
    ("sent", "ours"),
    [
        ({"midspan": {"steps": 3}, "python": {"x": 1}}, {"steps": 3}),
        ({"steps": 3, "oops": 1}, {"steps": 3, "oops": 1}),
        ({"telemetry": {"level": "all"}, "editor": {"tabSize": 4}}, None),
        ({"telemetry": True, "editor": {"tabSize": 4}}, None),
        ({"telemetry": {"level": "all"}}, None),
        (
            {"languages": {"go": True}, "trace": {"server": "off"}},
            {"languages": {"go": True}, "trace": {"server": "off"}},
        ),
        ({"trace": {"server": "off"}}, None),
        ({"midspan": []}, []),
        ({"midspan": None}, None),
        ({"python": {"steps": 3}}, None),
        ({}, None),
        (None, None),
        ([1], None),
    ],
)
def test_our_section_of_a_configuration(sent: object, ours: object) -> None:
    assert section_of(sent) == ours


def test_a_change_overrides_the_initial_options() -> None:
    first = read_settings({"steps": 3, "preview": True, "typo": 1})

    def changed(section: object) -> tuple[Settings, str | None]:
        reading = changed_settings(first.settings, first.options, section, "here")
        return reading.settings, reading.problem

    assert changed({"steps": 5}) == (Settings(steps=5, preview=True), None)
    assert changed(None) == (Settings(steps=3, preview=True), None)
    settings, problem = changed({"stepz": 5, "enabel": True, "enable": False})
    assert settings == Settings(steps=3, preview=True, enable=False)
    assert "'stepz', 'enabel'" in str(problem)


def test_switching_off_and_on_while_the_server_runs(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start()
        client.open("forever\nx = ")
        client.send(complete(1, 0, 7))
        configure(client, {"midspan": {"enable": False}})
        assert client.answer(1)["result"] is None
        assert "enable" in client.state("off")
        assert client.ask(complete(2, 1, 4)) is None
        configure(client, {"midspan": {}})
        assert client.state("ready")
        assert client.ask(complete(3, 1, 4)) == [TEXT]
        assert client.leave() == 0


def test_a_server_switched_on_later_loads_the_engine(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.initialize({"enable": False, "status": True})
        client.send(call(None, "initialized", {}))
        assert client.state("off")
        configure(client, {"enable": True})
        assert client.state("loading")
        assert client.state("ready")
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) == [TEXT]
        assert client.leave() == 0


def test_unknown_keys_are_named_until_they_are_fixed_and_other_keys_apply(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start({"show_threshold": 0.5})
        client.open("low = ")
        configure(client, {"midspan": {"show_treshold": 0, "exclude": ["b.py"]}})
        said = client.notification("window/showMessage")["message"]
        assert "'show_treshold'" in said
        assert "known keys: enable" in said
        assert "show_treshold" in client.state("degraded")
        assert client.ask(complete(1, 0, 6)) == []
        client.open("x = ", uri="file:///b.py")
        assert client.ask(complete(3, 0, 4, uri="file:///b.py")) is None
        configure(client, {"midspan": {"show_threshold": 0}})
        assert client.state("ready")
        assert client.ask(complete(2, 0, 6)) == [TEXT]
        assert client.leave() == 0


def test_settings_of_other_programs_are_ignored(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start({"telemetry": False})
        configure(client, {"telemetry": {"level": "all"}, "editor": {"tabSize": 4}})
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) == [TEXT]
        # Nor is a message shown: leave() checks that none is left.
        assert client.leave() == 0
    assert not (tmp_path / FILE_NAME).exists()


def test_other_keys_keep_files_and_telemetry_private_despite_a_misspelt_key(tmp_path: Path) -> None:
    uri, prompts, state = "file:///project/secret.py", tmp_path / "prompts", tmp_path / "state"
    with connected(state, "--prompts", str(prompts)) as client:
        client.initialize({"exclude": ["secret.py"], "telemetry": False, "status": True, "typo": 1})
        client.send(call(None, "initialized", {}))
        assert "'typo'" in client.notification("window/showMessage")["message"]
        assert "'typo'" in client.state("degraded")
        client.open("x = ", uri=uri)
        client.open("y = ")
        assert client.ask(complete(1, 0, 4, uri=uri)) is None
        assert client.ask(complete(2, 0, 4)) == [TEXT]
        # A later change keeps the valid initial options.
        configure(client, {"midspan": {"steps": 3}})
        assert client.ask(complete(3, 0, 4, uri=uri)) is None
        assert client.leave() == 0
    assert "x = " not in prompts.read_text()
    assert not (state / FILE_NAME).exists()


WITH_CONFIGURATION = {"workspace": {"configuration": True}}


def initialize_with_configuration(
    client: RawClient, options: Any = None, capabilities: Message = WITH_CONFIGURATION
) -> Message:
    """Initialize, and return the request for the client's configuration."""
    client.initialize({"status": True} | (options or {}), capabilities)
    client.send(call(None, "initialized", {}))
    return configuration_request(client)


def configuration_request(client: RawClient) -> Message:
    """The next request for the client's configuration."""
    asked = client.take(lambda message: message.get("method") == "workspace/configuration")
    assert asked["params"] == {"items": [{"section": "midspan"}]}
    return asked


def answer_request(client: RawClient, asked: Message, answer: Message) -> None:
    """Answer a request for the configuration."""
    client.send({"jsonrpc": "2.0", "id": asked["id"]} | answer)


def test_a_client_that_sends_no_settings_gets_a_request_for_them(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        answer_request(client, initialize_with_configuration(client), {"result": [None]})
        assert client.state("ready")
        configure(client, None)
        answer_request(client, configuration_request(client), {"result": [{"enable": False}]})
        assert client.state("off")
        assert client.leave() == 0


def test_a_clients_configuration_overrides_its_initial_options(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with connected(state) as client:
        answer_request(
            client,
            initialize_with_configuration(client, {"show_threshold": 0}),
            {"result": [{"telemetry": False, "typo": 1}]},
        )
        said = client.notification("window/showMessage")["message"]
        assert "workspace/configuration" in said
        assert "'typo'" in said
        assert client.state("degraded")
        client.open("low = ")
        assert client.ask(complete(1, 0, 6)) == [TEXT]
        assert client.leave() == 0
    assert not (state / FILE_NAME).exists()


def test_no_model_is_loaded_if_the_configuration_switches_the_server_off(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        answer_request(client, initialize_with_configuration(client), {"result": [{"enable": False}]})
        assert client.state("off")
        assert client.leave() == 0
        assert "scripted engine loaded" not in client.stderr


@pytest.mark.parametrize(
    "answer",
    [{"result": [None]}, {"result": []}, {"result": None}, {"result": 7}, {"error": {"code": -32601, "message": "no"}}],
)
def test_a_client_without_a_usable_configuration_is_served(tmp_path: Path, answer: Message) -> None:
    with connected(tmp_path) as client:
        answer_request(client, initialize_with_configuration(client, {"show_threshold": 0}), answer)
        client.state("ready")
        for id in (1, 2):
            client.open("low = ")
            assert client.ask(complete(id, 0, 4)) == [TEXT]
            configure(client, None)
            answer_request(client, configuration_request(client), answer)
        assert client.leave() == 0
        # A malformed answer ends the wait too.
        assert ("did not say what its settings are" in client.stderr) != isinstance(answer.get("result"), list)


def test_a_client_that_answers_late_or_never_is_served_and_newer_settings_apply(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        first = initialize_with_configuration(client)
        client.state("ready")
        answer_request(client, first, {"result": [{"show_threshold": 0}]})
        client.open("low = ")
        assert client.ask(complete(1, 0, 6)) == [TEXT]
        configure(client, None)
        older = configuration_request(client)
        configure(client, {"midspan": {"show_threshold": 1}})
        answer_request(client, older, {"result": [{"show_threshold": 0}]})
        assert client.ask(complete(2, 0, 6)) == []
        configure(client, None)
        assert configuration_request(client)
        assert client.leave() == 0


def test_shutdown_before_the_client_has_answered(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        initialize_with_configuration(client)
        assert client.leave() == 0
        assert "Traceback" not in client.stderr


@pytest.mark.parametrize("refused", [False, True])
def test_notifications_of_changed_settings_are_registered_dynamically(tmp_path: Path, refused: bool) -> None:
    with connected(tmp_path) as client:
        client.initialize({"status": True}, {"workspace": {"didChangeConfiguration": {"dynamicRegistration": True}}})
        client.send(call(None, "initialized", {}))
        asked = client.take(lambda message: message.get("method") == "client/registerCapability")
        [registered] = asked["params"]["registrations"]
        assert registered["method"] == "workspace/didChangeConfiguration"
        assert registered["registerOptions"] == {"section": "midspan"}
        answer_request(client, asked, {"error": {"code": -32601, "message": "no"}} if refused else {"result": None})
        assert client.state("ready")
        assert client.leave() == 0
        assert ("does not tell of changed settings" in client.stderr) == refused


def test_telemetry_can_be_switched_off_and_on(tmp_path: Path) -> None:
    with connected(tmp_path) as client:
        client.start({"telemetry": False})
        client.open("x = ")
        assert client.ask(complete(1, 0, 4)) == [TEXT]
        assert not (tmp_path / FILE_NAME).exists()
        configure(client, {"telemetry": True})
        assert client.ask(complete(2, 0, 4)) == [TEXT]
        configure(client, {"telemetry": False})
        assert client.ask(complete(3, 0, 4)) == [TEXT]
        assert client.leave() == 0
    assert (tmp_path / FILE_NAME).exists()


async def test_the_order_of_states() -> None:
    sent: list[str] = []
    status = Status(lambda state, message: sent.append(f"{state}: {message}"))
    status.follow(enabled=True, wanted=True)
    status.trouble("log", "no log")
    status.loading("l")
    status.ready("r")
    status.trouble("telemetry", "no telemetry")
    status.well("log")
    status.well("telemetry")
    status.follow(enabled=False, wanted=True)
    status.follow(enabled=True, wanted=True)
    status.error("e")
    status.error("e")
    off = "off: switched off by the setting `enable`"
    assert sent == [
        "loading: l",
        "degraded: no log",
        "degraded: no log; no telemetry",
        "degraded: no telemetry",
        "ready: r",
        off,
        "ready: r",
        "error: e",
    ]


async def test_the_state_working_is_shown_only_for_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    shown = asyncio.Event()

    def send(state: str, _: str) -> None:
        sent.append(state)
        if state == "working":
            shown.set()

    status = Status(send)
    status.follow(enabled=True, wanted=True)
    status.ready("r")
    with status.work():
        pass
    assert sent == ["ready"]
    monkeypatch.setattr("midspan.server.lsp.status.WORKING_AFTER_S", 0.0)
    with status.work(), status.work():
        await asyncio.wait_for(shown.wait(), 60)
    assert sent == ["ready", "working", "ready"]


def test_a_client_that_wants_the_status_later_gets_the_current_state() -> None:
    sent: list[str] = []
    status = Status(lambda state, _: sent.append(state))
    status.follow(enabled=True, wanted=False)
    status.ready("r")
    assert sent == []
    status.follow(enabled=True, wanted=True)
    assert sent == ["ready"]
