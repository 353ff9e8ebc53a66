"""`midspan backends`: what is configured, how it is, and what could be; servers have ports of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from midspan.server.backends.find import PORTS, Found
from midspan.server.cli import main
from midspan.server.commands import backends
from midspan.server.commands.doctor import examine_engines
from midspan.server.telemetry.store import Telemetry
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply
from tests.server.commands.test_report import offer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "midspan").mkdir()
    return tmp_path


def says(paths: dict[str, Any]) -> HttpServer:
    """A server that answers some paths with JSON and any other with 404."""

    def answer(asked: Asked) -> Reply:
        if asked.path == "/infill" and "/props" in paths:
            return json_reply({"error": {"code": 400, "message": "input_prefix is required"}}, 400)
        return json_reply(paths[asked.path]) if asked.path in paths else json_reply({}, 404)

    return HttpServer(answer)


@pytest.fixture
def llama_server() -> Iterator[HttpServer]:
    props = {"default_generation_settings": {}, "model_path": "/models/qwen.gguf", "total_slots": 1}
    models = {"data": [{"id": "qwen.gguf"}]}
    with says({"/props": props, "/health": {"status": "ok"}, "/v1/models": models}) as server:
        yield server


def port(server: HttpServer) -> str:
    return server.url.rpartition(":")[2]


def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    main(["backends", *argv, "--json"])
    return json.loads(capsys.readouterr().out)


def test_what_is_found_is_printed_as_lines_to_add_and_they_are_read(
    capsys: pytest.CaptureFixture[str], home: Path, llama_server: HttpServer
) -> None:
    file = home / "midspan" / "config.toml"
    ollama = says({"/api/tags": {"models": [{"name": "qwen2.5-coder:1.5b"}, {"name": 'x"\n[policy]'}, {}]}})
    vllm = says({"/v1/models": {"data": [{"id": "google/diffusiongemma-26B"}, {"id": "other"}]}})
    with ollama, vllm, says({}) as nothing:
        ports = ",".join(map(port, (llama_server, ollama, vllm, nothing)))
        assert main(["backends", "find", "--ports", ports]) == 0
        lines = capsys.readouterr().out
        assert lines.startswith(f"# add to {file}, ")
        file.write_text(lines)
        assert main(["backends", "find", "--ports", port(ollama)]) == 0
        assert capsys.readouterr().out == f"all that was found is configured: {ollama.url}\n"
    found = listed(capsys)
    assert [(one["name"], one["kind"], one["address"], one["model"]) for one in found["backends"]] == [
        ("llama-server", "llama-server", llama_server.url, ""),
        ("ollama", "ollama", ollama.url, "qwen2.5-coder:1.5b"),
        ("vllm", "vllm-diffusion", vllm.url, "google/diffusiongemma-26B"),
        ("vllm2", "vllm-diffusion", vllm.url, "other"),
    ]
    assert [one["reading"] for one in found["backends"]] == ["autoregressive"] * 2 + ["diffusion"] * 2


@pytest.mark.parametrize("spelled", ["http://localhost:{}", "http://localhost:{}/v1", "http://127.0.0.1:{}/v1/"])
def test_a_configured_server_is_known_by_any_spelling_of_its_address(
    capsys: pytest.CaptureFixture[str], home: Path, llama_server: HttpServer, spelled: str
) -> None:
    file = home / "midspan" / "config.toml"
    address = spelled.format(port(llama_server))
    file.write_text(f'[[backends]]\nname = "mine"\nkind = "llama-server"\naddress = "{address}"\n')
    assert main(["backends", "find", "--ports", port(llama_server)]) == 0
    assert capsys.readouterr().out == f"all that was found is configured: {llama_server.url}\n"


def test_lines_to_add_take_no_name_that_is_configured(
    capsys: pytest.CaptureFixture[str], home: Path, llama_server: HttpServer
) -> None:
    file = home / "midspan" / "config.toml"
    table = '[[backends]]\nname = "{}"\nkind = "llama-server"\naddress = "http://127.0.0.1:{}"\n'
    file.write_text(table.format("llama-server", 9) + table.format("llama-server3", 10))
    with says({"/props": {}, "/health": {}}) as second:
        assert main(["backends", "find", "--ports", f"{port(llama_server)},{port(second)}"]) == 0
    lines = capsys.readouterr().out
    file.write_text(file.read_text() + lines)
    names = [one["name"] for one in listed(capsys)["backends"]]
    assert names == ["llama-server", "llama-server3", "llama-server2", "llama-server4"]


def test_where_nothing_listens_one_line_says_so(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    with says({}) as server:
        free = port(server)
    assert main(["backends", "find", "--ports", free]) == 0
    assert capsys.readouterr().out.startswith(f"no model server answers at 127.0.0.1 on the ports {free}; start one")


def test_the_usual_ports_are_looked_at_where_none_is_named(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()

    def nothing(ports: Iterable[int]) -> list[Found]:
        asked.extend(ports)
        return []

    monkeypatch.setattr(backends, "find", nothing)
    assert main(["backends", "find"]) == 0
    assert tuple(asked) == PORTS
    assert "9931, 8080" in capsys.readouterr().out


@pytest.mark.parametrize("ports", ["", "80,", "0", "70000", "x"])
def test_a_bad_list_of_ports_is_one_line(capsys: pytest.CaptureFixture[str], ports: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["backends", "find", "--ports", ports])
    assert ended.value.code == 2
    assert "is no list of ports, such as 9931,8080" in capsys.readouterr().err


def test_engines_are_probed_on_request_only(
    capsys: pytest.CaptureFixture[str], home: Path, llama_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE_KEY", "a-planted-key")
    with says({}) as gone:
        pass
    tables = [
        f'[[backends]]\nname = "{name}"\nkind = "llama-server"\naddress = "{url}"\nkey_variable = "{name.upper()}_KEY"'
        for name, url in (("here", llama_server.url), ("gone", gone.url))
    ]
    (home / "midspan" / "config.toml").write_text("\n".join(tables))
    assert [(one["state"], one["circuit"]) for one in listed(capsys)["backends"]] == [(None, None)] * 2
    assert llama_server.asked == []
    assert main(["backends", "--probe"]) == 1
    said = capsys.readouterr().out
    assert "ready, asked in" in said
    assert "in HERE_KEY" in said
    assert "GONE_KEY is not set" in said
    assert "circuit  closed: it is asked" in said
    assert "circuit  open: it is left alone, and asked how it is now and then" in said
    here, there = listed(capsys, "--probe")["backends"]
    assert (here["state"], here["can"]["infill"], here["tier"]) == ("ready", True, "loopback")
    assert there["state"] == "refused"
    assert (here["circuit"], there["circuit"]) == ("closed", "open")
    assert 0 < here["probe_ms"] <= here["probe_p90_ms"]
    assert there["problem"]
    assert "planted" not in said


def test_how_long_an_engine_took_is_read_from_the_telemetry(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    (home / "midspan" / "config.toml").write_text(
        '[[backends]]\nname = "here"\nkind = "llama-server"\naddress = "http://127.0.0.1:9"'
    )
    store = Telemetry(tmp_path / "state", print)
    for number in range(10):
        store.offered(offer(f"id {number}", engine="here", engine_ms=float(number)))
    store.close()
    [one] = listed(capsys, "--state-dir", str(tmp_path / "state"))["backends"]
    assert one["fills"] == {"n": 10, "p50_ms": 4.0, "p90_ms": 8.0}
    main(["backends", "--state-dir", str(tmp_path / "state")])
    assert "p50 4 ms, p90 8 ms, of the last 10" in capsys.readouterr().out


def test_without_a_configuration_a_line_says_where_one_would_be(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["backends"]) == 0
    assert capsys.readouterr().out.startswith(f"none configured in {home / 'midspan' / 'config.toml'}; ")


def test_a_bad_file_is_one_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / "midspan" / "config.toml").write_text('[[backends]]\nname = "a"\nkind = "ollama"\nadress = "x"')
    assert main(["backends"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_doctor_says_how_engines_are_and_who_answered_last(
    home: Path, tmp_path: Path, llama_server: HttpServer
) -> None:
    found: dict[str, Any] = {"fixes": [], "layout": "filler"}
    file = home / "midspan" / "config.toml"
    examine_engines(found, file, tmp_path)
    assert found == {"fixes": [], "layout": "filler"}
    file.write_text(f'[[backends]]\nname = "here"\nkind = "llama-server"\naddress = "{llama_server.url}"\n')
    examine_engines(found, file, tmp_path)
    assert found == {"fixes": [], "layout": "filler", "engines": {"here": "ready"}, "answered_last": "nobody yet"}
    store = Telemetry(tmp_path, print)
    store.offered(offer("a", engine="here", route="here is the only one left"))
    store.close()
    examine_engines(found, file, tmp_path)
    assert found["answered_last"] == "here (here is the only one left)"
    file.write_text("backends = 1")
    examine_engines(found, file, tmp_path)
    assert "write [[backends]] above each engine's keys" in found["fixes"][0]
