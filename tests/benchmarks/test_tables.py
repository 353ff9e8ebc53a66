"""The tables of figures agree with the recorded rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.record import as_row, benchmark
from benchmarks.tables import (
    BEGIN,
    END,
    ROWS,
    latest,
    main,
    placed,
    render,
    render_card,
    render_others,
    render_short,
    render_tried,
)

MS = {"p50": 93.6, "p95": 123.4}
QUALITY: dict[str, Any] = {
    "command": "midspan bench quality --tasks mbpp-single-line.jsonl",
    "commit": "abc1234",
    "machine": "A machine",
    "n": 200,
    "pass@1": 0.25,
    "exact_match": 0.125,
    "ci95": [0.2, 0.3],
    "shown": 0.5,
    "pass@1_when_shown": 0.75,
    "latency_ms": MS,
    "steps_mean": 4.0,
    "checkpoint": "embedded",
    "device": "cpu",
}
KEYSTROKE: dict[str, Any] = {
    "command": "midspan bench keystroke",
    "commit": "abc1234",
    "machine": "A machine",
    "response_ms": MS,
    "server_ms": {"p50": 2.0},
    "cancel_ms": None,
    "saved": 0.047,
    "checkpoint": "embedded",
    "device": "cpu",
}
RULE = {
    "saved": 0.1,
    "ci95": [0.05, 0.15],
    "shown_per_keystroke": 0.2,
    "right_when_shown": None,
    "wrong_per_keystroke": 0.2,
}
REPLAY: dict[str, Any] = {
    "command": "midspan bench replay --files heldout.jsonl",
    "commit": "def5678",
    "machine": "Another machine",
    "lines": 100,
    "workspace": True,
    "exact": {**RULE, "right_when_shown": 0.61, "suggestions": 40, "right_of_suggestions": 0.35},
    "prefix": {**RULE, "saved": 0.2},
    "response_ms": MS,
    "checkpoint": "embedded",
    "device": "cpu",
}
VARIANTS: dict[str, Any] = {
    "command": "variants.py embedded",
    "commit": "abc1234",
    "machine": "A machine",
    "checkpoint": "embedded",
    "holes": 100,
    "variants": [
        {"variant": {}, "exact": 0.2, "any": 0.25, "latency_ms": MS},
        {"variant": {"steps": 2, "slots": [8, 16]}, "exact": 0.1, "any": 0.25, "latency_ms": MS},
    ],
}
LOGGED = {"seconds": 7200.0, "tokens": 50_000_000, "heldout_slot": 2.876, "heldout_causal": 2.646}
SHARES = {"exact": 0.2, "shown": 0.3, "right_when_shown": 0.6}
CALIBRATED: dict[str, Any] = {
    "command": "calibrate.py embedded",
    "commit": "abc1234",
    "machine": "A machine",
    "lines": SHARES,
    "ends_of_lines": SHARES | {"right_when_shown": None},
    "nats": 0.38251,
    "nats_without": {"middle_root": 0.4084},
    "checkpoint": "embedded",
    "device": "cpu",
}
SHAPE = {"ratio": 8.25, "midspan_ms": 60.0, "transformers_ms": 495.0, "steps_mean": 4.0}
VERSUS: dict[str, Any] = {
    "command": "versus_transformers.py --files heldout.jsonl",
    "commit": "abc1234",
    "machine": "A machine",
    "threads": 2,
    "shipped": SHAPE,
    "one_canvas": {**SHAPE, "ratio": 3.0},
    "one_canvas_next_key": {**SHAPE, "ratio": 4.0},
    "checkpoint": "embedded",
    "device": "cpu",
}


BESIDE_LLAMA_SERVER: dict[str, Any] = {
    "command": "versus_llama_server.py tiny.gguf",
    "commit": "abc1234",
    "machine": "A machine",
    "threads": 2,
    "keys": 300,
    "midspan_ms": {"p50": 100.0, "p95": 400.0},
    "llama_server_ms": {"p50": 200.0, "p95": 500.0},
    "ratio": {"p50": 0.5, "p95": 0.8},
    "midspan_cold_ms": 1000.4,
    "llama_server_cold_ms": 2000.0,
    "midspan_tokens_s": {"prompt": 300.0, "generate": 20.0},
    "llama_server_tokens_s": {"prompt": 200.0, "generate": 10.4},
    "drafts": {"passes": 100, "written": 250, "drafted": 300, "kept": 150},
    "checkpoint": "embedded",
    "device": "cpu",
}


IN_EDITOR: dict[str, Any] = {
    "command": "neovim_latency.py",
    "commit": "abc1234",
    "machine": "A machine",
    "editor": "NVIM v0.12.4",
    "key_to_ghost_ms": {"p50": 240.0, "p95": 300.0, "count": 38, "of": 40},
    "server_ms": {"p50": 20.0, "p95": 31.0, "count": 40, "of": 40},
    "checkpoint": "embedded",
    "device": "auto",
}


def table(*rows: dict[str, Any]) -> dict[str, list[str]]:
    """The rendered cells of each line by its label; the head's label is empty."""
    lines = [line.strip("|").split("|") for line in render(list(rows)).splitlines()]
    assert len({len(line) for line in lines}) == 1
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_the_pages_agree_with_the_recorded_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_every_figure_has_its_line() -> None:
    found = table(QUALITY, CALIBRATED, KEYSTROKE, REPLAY, VERSUS, BESIDE_LLAMA_SERVER)
    assert found["a whole line's fill at every key, 300 keys, 2 threads"] == ["p50 100 ms, p95 400 ms"]
    assert found["the same by llama-server, by turns, 300 keys, 2 threads"] == ["p50 200 ms, p95 500 ms"]
    assert found["midspan's share of that time, 300 keys, 2 threads"] == ["p50 0.50, p95 0.80"]
    assert found["the first key in a file, midspan and llama-server, 300 keys, 2 threads"] == ["1000 and 2000 ms"]
    assert found["tokens a second, of a prompt, midspan and llama-server, 300 keys, 2 threads"] == ["300 and 200"]
    assert found["tokens a second, written one by one, midspan and llama-server, 300 keys, 2 threads"] == ["20 and 10"]
    assert found["tokens that were drafted and right, 300 keys, 2 threads"] == [
        "60.0 % of what was written; 2.5 tokens a pass"
    ]
    assert found[""] == ["embedded"]
    assert found["pass@1, `mbpp-single-line`"] == ["25.0 % (95 % interval 20.0 to 30.0 %, 200 gaps)"]
    assert found["exactly the missing text, `mbpp-single-line`"] == ["12.5 %"]
    assert found["shown at the shipped threshold, `mbpp-single-line`"] == ["50.0 % of the gaps, 75.0 % of them right"]
    assert found["exactly the missing text, whole lines of held-out packages"] == ["20.0 %"]
    shown = "shown at the shipped threshold"
    assert found[f"{shown}, whole lines of held-out packages"] == ["30.0 %, 60.0 % of them right"]
    assert found[f"{shown}, ends of lines of held-out packages"] == ["30.0 %"]
    told = found["telling right fills of held-out packages from wrong ones"]
    assert told == ["0.383 nats a fill; 0.408 without the root of fill-in-the-middle's probability"]
    assert found["request to response, typed files"] == ["p50 94 ms, p95 123 ms"]
    assert found["the server's own share of it"] == ["p50 2.0 ms"]
    assert found["keys that right suggestions would have saved there"] == ["4.7 %"]
    exact, prefix = "exact rest of the line accepted", "or a right beginning of 3 characters accepted"
    assert found[f"characters saved in held-out files, {exact}"] == ["10.0 % (95 % interval 5.0 to 15.0 %, 100 lines)"]
    assert found[f"characters saved in held-out files, {prefix}"][0].startswith("20.0 %")
    assert f"characters saved in held-out files, no folder open, {exact}" not in found
    said = "wrong 20.0 times in 100 keystrokes"
    assert found[f"shown there, {exact}"] == [f"after 20.0 % of keystrokes, 61.0 % of them right; {said}"]
    assert found[f"shown there, {prefix}"] == [f"after 20.0 % of keystrokes; {said}"]
    assert found[f"suggestions there, each counted once, {exact}"] == ["40, 35.0 % of them right"]
    assert f"suggestions there, each counted once, {prefix}" not in found
    faster = found["against transformers' `generate`, a fill as shipped, 2 threads"]
    assert faster == ["8.2 times as fast (60 ms and 495 ms, 4.0 steps)"]
    assert "against transformers' `generate`, one free canvas each, 2 threads" in found
    assert found["against transformers' `generate`, one free canvas each, the next key, 2 threads"][0].startswith("4.0")
    assert "against transformers' `generate`, a fill as shipped, the next key, 2 threads" not in found
    assert found["commit"] == ["`abc1234`, `def5678`"]
    assert found["machine"] == ["A machine, Another machine"]


def test_a_row_of_a_sample_has_lines_of_its_own() -> None:
    sample = QUALITY | {"command": f"{QUALITY['command']} --limit 200", "pass@1": 0.5}
    found = table(QUALITY, sample)
    shares = [found[f"pass@1, `mbpp-single-line`{of}"][0].split(" (")[0] for of in ("", ", a sample of 200")]
    assert shares == ["25.0 %", "50.0 %"]


def test_answers_from_memory_and_from_the_model_have_separate_lines() -> None:
    assert "of these from the model" not in table(KEYSTROKE)
    row = KEYSTROKE | {"keystrokes": 9, "typed_along": 5, "typed_along_ms": {"p50": 0.42}, "from_engine_ms": MS}
    assert table(row)["of these from memory, as the key runs along a suggestion"] == ["5 of 9 keys: p50 0.4 ms"]
    assert table(row)["of these from the model"] == ["p50 94 ms, p95 123 ms"]


def test_the_long_file_and_the_start_are_shown_where_they_were_measured() -> None:
    label, start = "the same in a file of 20000 lines", "`initialize`, and a start until then"
    assert not {label, start} & set(table(KEYSTROKE))
    row = KEYSTROKE | {"longest_file_lines": 20000, "initialize_ms": 4.6, "start_ms": 512.2}
    assert label not in table(row | {"server_long_ms": None})
    found = table(row | {"server_long_ms": {"p50": 1.5}})
    assert (found[label], found[start]) == (["p50 1.5 ms"], ["5 ms, 512 ms"])


def test_a_file_of_another_length_adds_its_line_and_changes_no_other() -> None:
    other = KEYSTROKE | {"command": "midspan bench keystroke --lines 9", "longest_file_lines": 9, "saved": 0.5}
    found = table(KEYSTROKE, other | {"server_long_ms": {"p50": 1.5}})
    assert found.pop("the same in a file of 9 lines") == ["p50 1.5 ms"]
    assert found == table(KEYSTROKE)


def test_memory_is_shown_where_it_was_measured() -> None:
    label = "peak resident memory of the server"
    assert label not in table(KEYSTROKE)
    assert label not in table(KEYSTROKE | {"rss_mb": None})
    assert table(KEYSTROKE | {"rss_mb": 551.2})[label] == ["551 MB"]


def test_the_latest_row_of_a_command_counts() -> None:
    old, new = QUALITY | {"pass@1": 0.1, "commit": "old0000"}, QUALITY
    assert table(old, KEYSTROKE, new) == table(new, KEYSTROKE)
    assert table(new, old)["commit"] == ["`old0000`"]
    assert latest([old, KEYSTROKE, new]) == [new, KEYSTROKE]


def test_another_checkpoint_has_a_table_of_its_own() -> None:
    twin = QUALITY | {"checkpoint": "twin", "pass@1": 0.5, "command": f"{QUALITY['command']} --checkpoint twin"}
    gpu = QUALITY | {"device": "cuda:0", "command": f"{QUALITY['command']} --device cuda"}
    rows = [QUALITY, twin, KEYSTROKE, gpu]
    assert table(*rows)[""] == ["embedded"]
    assert table(*rows) == table(QUALITY, KEYSTROKE)
    others = render_others(rows)
    heads = [line for line in others.splitlines() if line.startswith("| |")]
    assert heads == ["| | twin |", "| | embedded on cuda:0 |"]
    assert others.count("request to response") == 0
    assert "50.0 % (95 % interval" in others


def test_the_readme_has_five_figures() -> None:
    typed = KEYSTROKE | {"from_engine_ms": MS | {"p99": 200.0}, "rss_mb": 551.2}
    few = REPLAY | {"command": "midspan bench replay --limit 9", "lines": 9}
    sample = QUALITY | {"command": f"{QUALITY['command']} --limit 9", "n": 9}
    lines = render_short([few, sample, QUALITY, typed, REPLAY]).splitlines()
    assert [line.split(" | ")[1].rstrip(" |") for line in lines[2:]] == [
        "25.0 % of 200",
        "35.0 % of 40 suggestions",
        "p50 94 ms, p95 123 ms",
        "551 MB",
        "10.0 % (100 lines)",
    ]


def test_a_row_of_another_command_is_left_out() -> None:
    assert table(QUALITY, {"command": "midspan bench kernels"}) == table(QUALITY)


def test_writing_changes_only_the_text_between_the_markers(tmp_path: Path) -> None:
    keys = KEYSTROKE | {"from_engine_ms": MS, "rss_mb": 551.2}
    recorded = [QUALITY, keys, REPLAY, VARIANTS]
    rows, readme, card = tmp_path / "rows.jsonl", tmp_path / "README.md", tmp_path / "card.md"
    full, tried = tmp_path / "docs/benchmarks.md", tmp_path / "docs/experiments.md"
    full.parent.mkdir()
    rows.write_text("".join(json.dumps(row) + "\n" for row in recorded))
    for page in (full, tried, card):
        page.write_text(f"{BEGIN}\n{END}\n")
    (tmp_path / "log.jsonl").write_text(json.dumps(LOGGED) + "\n")
    readme.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    assert main(["--check"], rows, tmp_path, card) == 1
    assert "old" in readme.read_text()
    assert main([], rows, tmp_path, card) == 0
    assert readme.read_text() == f"before\n\n{BEGIN}\n{render_short(recorded)}{END}\n\nafter\n"
    assert full.read_text() == f"{BEGIN}\n{render(recorded)}{END}\n"
    assert tried.read_text() == f"{BEGIN}\n{render_tried([VARIANTS])}{END}\n"
    assert card.read_text() == f"{BEGIN}\n{render_card(recorded, [LOGGED])}{END}\n"
    assert main(["--check"], rows, tmp_path, card) == 0
    rows.write_text("".join(json.dumps(row) + "\n" for row in [*recorded, QUALITY | {"n": 201}]))
    assert main(["--check"], rows, tmp_path, card) == 1


def test_the_model_card_has_the_embedded_column_and_the_cost_of_training() -> None:
    twin = QUALITY | {"checkpoint": "twin", "command": "midspan bench quality --tasks mbpp-single-line.jsonl --of-it"}
    lines = render_card([QUALITY, twin, VARIANTS], [{"step": 1}, LOGGED]).splitlines()
    assert lines[0] == "| | embedded |"
    assert lines[2] == "| training | 2.0 hours of steps, 50.0 M tokens of texts and canvases |"
    assert lines[3] == "| held-out losses | 2.88 nats a free slot, 2.65 a token of plain text |"
    assert lines[4:] == render([QUALITY]).splitlines()[2:]


def test_every_variant_has_its_line() -> None:
    assert render_tried([QUALITY, VARIANTS]).splitlines()[-2:] == [
        "| as shipped | 20.0 % | 25.0 % | p50 94 ms, p95 123 ms |",
        "| `steps` 2, `slots` [8, 16] | 10.0 % | 25.0 % | p50 94 ms, p95 123 ms |",
    ]
    stepped = [tried | {"steps_mean": 1.96} for tried in VARIANTS["variants"]]
    trial = REPLAY | {"command": "midspan bench replay --show-threshold 0.4", "threshold": 0.4}
    assert render_tried([VARIANTS, REPLAY, trial]).splitlines()[-1] == (
        "| 0.4 | 10.0 % of 100 lines | 40, 35.0 % of them right | 20.0 | `def5678` |"
    )
    # A replay at another threshold is no figure of the checkpoint.
    assert latest([REPLAY, trial]) == [REPLAY]
    title, *_, last = render_tried([VARIANTS | {"divergent": True, "variants": stepped}]).splitlines()
    assert title.startswith("100 gaps of held-out packages behind a key that went against the fill before, checkpoint")
    assert last.endswith("| p50 94 ms, p95 123 ms, 2.0 steps |")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}", f"{BEGIN}{END}{END}"])
def test_missing_or_repeated_markers_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        placed(text, "table\n")


def test_a_recorded_command_names_no_folder_of_this_machine() -> None:
    command, name = benchmark(["quality", "--tasks", "/some/where/tasks.jsonl", "--limit", "3"])
    assert command[1:] == [
        "-m", "midspan.server", "bench", "quality", "--tasks", "/some/where/tasks.jsonl", "--limit", "3", "--json"
    ]  # fmt: skip
    assert name == "midspan bench quality --tasks tasks.jsonl --limit 3"
    command, name = benchmark(["versus_transformers.py", "--files", "runs/corpus/heldout.jsonl"])
    assert command == [
        sys.executable,
        str(ROWS.parent / "versus_transformers.py"),
        "--files",
        "runs/corpus/heldout.jsonl",
    ]
    assert name == "versus_transformers.py --files heldout.jsonl"
    row = as_row(name, "abc1234", {"n": 1, "checkpoint": "/some/where/twin"})
    assert (row["command"], row["commit"], row["n"], row["checkpoint"]) == (name, "abc1234", 1, "twin")
    assert "cores" in row["machine"]


def test_a_replay_without_an_open_folder_has_lines_of_its_own() -> None:
    alone = {**REPLAY, "command": "midspan bench replay --no-workspace", "workspace": False}
    table = render([REPLAY, alone])
    assert table.count("| characters saved in held-out files, exact") == 1
    assert table.count("| characters saved in held-out files, no folder open, exact") == 1
    assert table.count("| request to response there, no folder open |") == 1


def test_an_editor_s_time_has_the_server_s_part_and_its_menu_s_two_sides() -> None:
    browser = {
        **IN_EDITOR,
        "command": "editor_latency.py",
        "editor": "code-server 4.139.1",
        "menu_ms": {
            "with": {"p50": 100.0, "p95": 150.0, "count": 1, "of": 1},
            "nothing_sure": {"p50": 110.0, "p95": 160.0, "count": 1, "of": 1},
            "without": {"p50": 90.0, "p95": 140.0, "count": 1, "of": 1},
        },
    }
    found = table(IN_EDITOR, browser)
    assert found["a key to ghost text on the screen, Neovim 0.12.4"] == ["p50 240 ms, p95 300 ms"]
    assert found["the server's part of it, VS Code 4.139.1 in a browser"] == ["p50 20 ms, p95 31 ms"]
    menu = "a key to the completion menu, {}, VS Code 4.139.1 in a browser"
    assert found[menu.format("midspan as it ships")] == ["p50 100 ms, p95 150 ms"]
    assert found[menu.format("without midspan")] == ["p50 90 ms, p95 140 ms"]


def test_a_cancel_s_time_is_a_figure() -> None:
    row = {
        "command": "cancel.py",
        "commit": "abc1234",
        "machine": "A machine",
        "cancel_to_idle_ms": {"p50": 1.0, "p95": 4.0, "p99": 9.0},
        "cancels": 100,
        "fills": 120,
        "checkpoint": "embedded",
        "device": "cpu",
    }
    assert table(row)["a stopped fill to an idle engine, 100 fills"] == ["p50 1.0 ms, p95 4.0 ms, p99 9.0 ms"]
