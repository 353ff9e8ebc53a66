"""Writes the tables of figures from `rows.jsonl`: `.venv/bin/python benchmarks/tables.py [--check]`.

The latest row of each command counts. README.md gets the five figures that a user feels; docs/benchmarks.md gets every
figure of the checkpoint that ships; the model card the same below the cost of its training. docs/experiments.md gets
what does not ship: other checkpoints, every run of `variants.py`, and `bench replay` at other thresholds. A table
stands between the markers `<!-- figures:begin -->` and `<!-- figures:end -->`; those of other_tables.py have names of
their own. With --check nothing is written, and the exit code is 1 if a page differs from the rows.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# As a program beside these files, and as a module of the tests.
sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.other_tables import others

BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"
ROWS = Path(__file__).parent / "rows.jsonl"
ROOT = Path(__file__).parents[1]
CARD = ROOT / "engine/checkpoints/embedded/README.md"
SHIPPED = "embedded"
TRIAL = "--show-threshold"

Row = dict[str, Any]
Figures = Iterator[tuple[str, str]]


def quality(row: Row) -> Figures:
    """Label and value of each figure of a `midspan bench quality` row."""
    words = shlex.split(row["command"])
    name = Path(words[words.index("--tasks") + 1]).name.partition(".")[0]
    tasks = f"`{name}`" + (f", a sample of {row['n']}" if "--limit" in words else "")
    low, high = row["ci95"]
    interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
    yield f"pass@1, {tasks}", f"{percent(row['pass@1'])} ({interval}, {row['n']} gaps)"
    yield f"exactly the missing text, {tasks}", percent(row["exact_match"])
    right = row["pass@1_when_shown"]
    of_them = "" if right is None else f", {percent(right)} of them right"
    yield f"shown at the shipped threshold, {tasks}", f"{percent(row['shown'])} of the gaps{of_them}"
    yield f"one fill, {tasks}", f"{times(row['latency_ms'])}, {row['steps_mean']:.1f} steps"


def keystroke(row: Row) -> Figures:
    """Label and value of each figure of a `midspan bench keystroke` row; with --lines only what depends on them."""
    if "--lines" in row["command"]:
        yield f"the same in a file of {row['longest_file_lines']} lines", times(row["server_long_ms"])
        return
    yield "request to response, typed files", times(row["response_ms"])
    # The first rows lack answers from memory.
    if row.get("typed_along_ms") is not None:
        along = f"{row['typed_along']} of {row['keystrokes']} keys: {times(row['typed_along_ms'])}"
        yield "of these from memory, as the key runs along a suggestion", along
        yield "of these from the model", times(row["from_engine_ms"])
    yield "the server's own share of it", times(row["server_ms"])
    # The first rows lack the figure of one file alone.
    if row.get("server_long_ms") is not None:
        yield f"the same in a file of {row['longest_file_lines']} lines", times(row["server_long_ms"])
        yield "`initialize`, and a start until then", f"{row['initialize_ms']:.0f} ms, {row['start_ms']:.0f} ms"
    if row["cancel_ms"] is not None:
        yield "cancel to answer", times(row["cancel_ms"])
    yield "keys that right suggestions would have saved there", percent(row["saved"])
    # The first rows lack it, and it is null where the operating system does not tell.
    if row.get("rss_mb") is not None:
        yield "peak resident memory of the server", f"{row['rss_mb']:.0f} MB"


def replay(row: Row) -> Figures:
    """Label and value of each figure of a `midspan bench replay` row."""
    # Rows without the key had no folder open.
    alone = "" if row.get("workspace", False) else ", no folder open"
    for name, rule in (("exact", "exact rest of the line"), ("prefix", "or a right beginning of 3 characters")):
        found = row[name]
        low, high = found["ci95"]
        interval = f"95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        saved = f"{percent(found['saved'])} ({interval}, {row['lines']} lines)"
        yield f"characters saved in held-out files{alone}, {rule} accepted", saved
        shown, wrong = found["shown_per_keystroke"], found["wrong_per_keystroke"]
        right = "" if found["right_when_shown"] is None else f", {percent(found['right_when_shown'])} of them right"
        yield (
            f"shown there{alone}, {rule} accepted",
            f"after {percent(shown)} of keystrokes{right}; wrong {100 * wrong:.1f} times in 100 keystrokes",
        )
        if found.get("suggestions"):
            share = f"{found['suggestions']}, {percent(found['right_of_suggestions'])} of them right"
            yield f"suggestions there{alone}, each counted once, {rule} accepted", share
    yield f"request to response there{alone}", times(row["response_ms"])


def soak(row: Row) -> Figures:
    """Label and value of each figure of a `midspan bench soak` row."""
    grown = f"{row['warm_rss_mb']:.0f} to {row['end_rss_mb']:.0f} MB, {100 * row['growth']:+.1f} %"
    where = " in a workspace" if row.get("workspace") else ""
    yield f"memory over {row['minutes']:g} minutes of typing{where} in time-lapse, warm-up left out", grown


def calibrated(row: Row) -> Figures:
    """Label and value of each figure of a `calibrate.py` row."""
    yield from shares(row["lines"], "whole lines of held-out packages")
    yield from shares(row["ends_of_lines"], "ends of lines of held-out packages")
    if "nats" in row:
        # `middle_root` in older rows.
        nats = row["nats_without"].get("fim_root", row["nats_without"].get("middle_root"))
        without = f"{nats:.3f} without the root of fill-in-the-middle's probability"
        yield "telling right fills of held-out packages from wrong ones", f"{row['nats']:.3f} nats a fill; {without}"


def marks_calibrated(row: Row) -> Figures:
    """Label and value of each figure of a `calibrate_marks.py` row."""
    yield from shares(row["kinds"]["line"], "whole lines of held-out packages in five languages")
    yield from shares(row["kinds"]["rest_of_line"], "ends of lines of held-out packages in five languages")


def shares(found: dict[str, Any], what: str) -> Figures:
    """What is right of all such gaps, and what is shown of them."""
    right = "" if found["right_when_shown"] is None else f", {percent(found['right_when_shown'])} of them right"
    yield f"exactly the missing text, {what}", percent(found["exact"])
    yield f"shown at the shipped threshold, {what}", f"{percent(found['shown'])}{right}"


def search_floor(row: Row) -> Figures:
    """Label and value of each figure of a `search_floor.py` row (`promising.py` in older rows)."""
    lost = f"with them {percent(row['lost_of_right'])} of what is shown and right"
    given_up = f"{percent(1 - row['passed'])}; {lost} is lost"
    yield "gaps of held-out packages that are given up before a canvas is denoised", given_up


def early_exit(row: Row) -> Figures:
    """Label and value of each figure of an `early_exit.py` row."""
    stopped = f"{percent(row['stopped'])}; with them {percent(row['lost_of_right'])} of what is shown and right is lost"
    yield "of the gaps that a fill is wanted for only if it is sure, given up by what beams and lines say", stopped
    right = f"{percent(row['answered_right'])} of them right ({percent(row['right_in_the_end'])} with canvases)"
    yield "answered by a beam or line, no canvas asked", f"{percent(row['answered'])}; {right}"
    yield "of what is shown, answered so", percent(row["of_shown"])


def versus(row: Row) -> Figures:
    """Label and value of each figure of a `versus_transformers.py` row."""
    shapes = {"shipped": "a fill as shipped", "one_canvas": "one free canvas each"}
    shapes |= {f"{name}_next_key": f"{what}, the next key" for name, what in shapes.items()}
    for name, what in shapes.items():
        if (found := row.get(name)) is None:
            continue
        threads = f"{row['threads']} thread" + ("s" if row["threads"] > 1 else "")
        yield (
            f"against transformers' `generate`, {what}, {threads}",
            f"{found['ratio']:.1f} times as fast ({found['midspan_ms']:.0f} ms and {found['transformers_ms']:.0f} ms, "
            f"{found['steps_mean']:.1f} steps)",
        )


def versus_llama_server(row: Row) -> Figures:
    """Label and value of each figure of a `versus_llama_server.py` row."""
    where = f"{row['keys']} keys, {row['threads']} thread" + ("s" if row["threads"] > 1 else "")
    yield f"a whole line's fill at every key, {where}", times(row["midspan_ms"])
    yield f"the same by llama-server, by turns, {where}", times(row["llama_server_ms"])
    ratio = ", ".join(f"{name} {share:.2f}" for name, share in row["ratio"].items())
    yield f"midspan's share of that time, {where}", ratio
    cold = (row["midspan_cold_ms"], row["llama_server_cold_ms"])
    yield f"the first key in a file, midspan and llama-server, {where}", "{:.0f} and {:.0f} ms".format(*cold)
    for what, name in (("of a prompt", "prompt"), ("written one by one", "generate")):
        speeds = (row["midspan_tokens_s"][name], row["llama_server_tokens_s"][name])
        yield f"tokens a second, {what}, midspan and llama-server, {where}", "{:.0f} and {:.0f}".format(*speeds)
    drafts = row["drafts"]
    kept, pace = drafts["kept"] / drafts["written"], drafts["written"] / drafts["passes"]
    said = f"{percent(kept)} of what was written; {pace:.1f} tokens a pass"
    yield f"tokens that were drafted and right, {where}", said


def other_files(row: Row) -> Figures:
    """Label and value of each figure of an `other_files.py` row."""
    without, where = row["without"], f"{row['gaps']} whole lines of held-out packages"
    yield f"exactly the missing text, without text of other files, {where}", percent(without["exact"])
    threads = f"{row['threads']} thread" + ("s" if row["threads"] > 1 else "")
    layouts = {"with": "text of other files", "repository": "the same laid out as in a repository"}
    for name, what in layouts.items():
        if (side := row.get(name)) is None:
            continue
        what = f"with {what}, at most {row['tokens']} tokens, {where}"
        alone = f"{side['gained']} gained, {side['lost']} lost"
        yield f"exactly the missing text, {what}", f"{percent(side['exact'])}; {alone}"
        saved = "{mean:.2f}, standard error {error:.2f}".format(**side["nats_saved"])
        yield f"nats that this saves of the true text, {what}", saved
        cost = "{:.0f} in place of {:.0f}".format(side["prompt_tokens"], without["prompt_tokens"])
        took = "{:.0f} ms in place of {:.0f} ms".format(side["encode_ms"]["p50"], without["encode_ms"]["p50"])
        yield f"tokens of a cold prompt, and reading it, p50, {threads}, {what}", f"{cost}; {took}"


MENUS = {
    "with": "midspan as it ships",
    "nothing_sure": "midspan with a threshold that nothing reaches",
    "without": "without midspan",
}


def editor(row: Row) -> Figures:
    """Label and value of each figure of an `editor_latency.py` or `neovim_latency.py` row."""
    name = row["editor"].removeprefix("code-server ").removeprefix("NVIM v")
    where = f"Neovim {name}" if row["editor"].startswith("NVIM") else f"VS Code {name} in a browser"
    yield f"a key to ghost text on the screen, {where}", times(p50_p95(row["key_to_ghost_ms"]))
    yield f"the server's part of it, {where}", times(p50_p95(row["server_ms"]))
    for side, found in row.get("menu_ms", {}).items():
        yield f"a key to the completion menu, {MENUS[side]}, {where}", times(p50_p95(found))


def cancel(row: Row) -> Figures:
    """Label and value of the figure of a `cancel.py` row."""
    yield f"a stopped fill to an idle engine, {row['cancels']} fills", times(row["cancel_to_idle_ms"])


KINDS: dict[str, Callable[[Row], Figures]] = {
    "midspan bench quality": quality,
    "calibrate.py": calibrated,
    "calibrate_marks.py": marks_calibrated,
    "promising.py": search_floor,
    "search_floor.py": search_floor,
    "early_exit.py": early_exit,
    "midspan bench keystroke": keystroke,
    "midspan bench replay": replay,
    "midspan bench soak": soak,
    "versus_transformers.py": versus,
    "versus_llama_server.py": versus_llama_server,
    "other_files.py": other_files,
    "editor_latency.py": editor,
    "neovim_latency.py": editor,
    "cancel.py": cancel,
}


def percent(share: float) -> str:
    """A share from 0 to 1."""
    return f"{100 * share:.1f} %"


def times(milliseconds: dict[str, float]) -> str:
    """Named percentiles."""
    return ", ".join(f"{name} {ms:.{0 if ms >= 10 else 1}f} ms" for name, ms in milliseconds.items())


def p50_p95(found: dict[str, float]) -> dict[str, float]:
    """The percentiles alone of what stands beside its count."""
    return {name: found[name] for name in ("p50", "p95")}


def column(row: Row) -> str:
    """The column that a row belongs to: its checkpoint, and the device if it is not the CPU."""
    checkpoint = Path(row["checkpoint"]).name
    # A soak leaves the choice of device to the server.
    return checkpoint if row["device"] in ("cpu", "auto") else f"{checkpoint} on {row['device']}"


def latest(rows: list[Row]) -> list[Row]:
    """The last row of each command without TRIAL, in the order of KINDS, then of the commands' first appearance."""
    last: dict[str, Row] = {}
    for row in rows:
        if TRIAL not in row["command"]:
            last[row["command"]] = row
    return [row for kind in KINDS for row in last.values() if row["command"].startswith(kind)]


def figures_of(rows: list[Row], name: str) -> dict[str, str]:
    """Label and value of every figure of one checkpoint, its commits and machines last."""
    out, sources = dict[str, str](), {"commit": dict[str, None](), "machine": dict[str, None]()}
    for row in latest([row for row in rows if "checkpoint" in row and "device" in row and column(row) == name]):
        kind = next(kind for kind in KINDS if row["command"].startswith(kind))
        out |= dict(KINDS[kind](row))
        sources["commit"][f"`{row['commit']}`"] = None
        sources["machine"][row["machine"]] = None
    return out | {source: ", ".join(values) for source, values in sources.items()}


def render(rows: list[Row], name: str = SHIPPED) -> str:
    """One checkpoint's figures as a table in Markdown."""
    lines = [f"| {label} | {value} |" for label, value in figures_of(rows, name).items()]
    return "\n".join([f"| | {name} |", "|---|---|", *lines]) + "\n"


def render_short(rows: list[Row]) -> str:
    """The five figures that a user feels, of the checkpoint that ships."""
    shipped = [row for row in rows if row.get("checkpoint") == SHIPPED and row.get("device") == "cpu"]
    of = {row["command"]: row for row in latest(shipped)}
    quality = next(row for name, row in of.items() if "mbpp-single-line" in name and "--limit" not in name)
    keys = of["midspan bench keystroke"]
    replays = [row for name, row in of.items() if name.startswith("midspan bench replay") and row.get("workspace")]
    typed = max(replays, key=lambda row: int(row["lines"]))
    exact = typed["exact"]
    figures = {
        "missing lines filled right (MBPP, tests pass)": f"{percent(quality['pass@1'])} of {quality['n']}",
        "right, of what is shown unasked while typing": f"{percent(exact['right_of_suggestions'])} of "
        f"{exact['suggestions']} suggestions",
        "wait for a fill, key to answer": times({name: keys["from_engine_ms"][name] for name in ("p50", "p95")}),
        "memory of the server": f"{keys['rss_mb']:.0f} MB",
        "keys saved while typing unseen files": f"{percent(exact['saved'])} ({typed['lines']} lines)",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in figures.items())]) + "\n"


def render_others(rows: list[Row]) -> str:
    """A table for each checkpoint that does not ship."""
    names = dict.fromkeys(column(row) for row in latest(rows) if "checkpoint" in row and "device" in row)
    return "\n".join(render(rows, name) for name in names if name != SHIPPED)


def render_tried(rows: list[Row]) -> str:
    """A table in Markdown for each run of `variants.py`, and one of all TRIALs."""
    parts = []
    for row in rows:
        if not row["command"].startswith("variants.py"):
            continue
        behind = " behind a key that went against the fill before" if row.get("divergent") else ""
        made_by = f"checkpoint `{row['checkpoint']}`, commit `{row['commit']}`:"
        title = f"{row['holes']} gaps of held-out packages{behind}, {made_by}"
        lines = ["| what differs | exact | among the hypotheses | one fill |", "|---|---|---|---|"]
        for tried in row["variants"]:
            what = ", ".join(f"`{key}` {json.dumps(value)}" for key, value in tried["variant"].items()) or "as shipped"
            steps = f", {tried['steps_mean']:.1f} steps" if "steps_mean" in tried else ""
            figures = (percent(tried["exact"]), percent(tried["any"]), times(tried["latency_ms"]) + steps)
            lines.append(f"| {what} | " + " | ".join(figures) + " |")
        parts.append(title + "\n\n" + "\n".join(lines) + "\n")
    if trials := [row for row in rows if TRIAL in row["command"]]:
        parts.append(_render_trials(trials))
    return "\n".join(parts)


def _render_trials(trials: list[Row]) -> str:
    """A table of `bench replay` at given thresholds."""
    title = (
        "Held-out lines retyped at a threshold of choice, their package's folder open, exact rest of the line accepted:"
    )
    lines = ["| threshold | characters saved | suggestions | wrong in 100 keys | commit |", "|---|---|---|---|---|"]
    for row in trials:
        found = row["exact"]
        shown = f"{found['suggestions']}, {percent(found['right_of_suggestions'])} of them right"
        wrong, saved = f"{100 * found['wrong_per_keystroke']:.1f}", f"{percent(found['saved'])} of {row['lines']} lines"
        lines.append(f"| {row['threshold']} | {saved} | {shown} | {wrong} | `{row['commit']}` |")
    return title + "\n\n" + "\n".join(lines) + "\n"


def render_card(rows: list[Row], log: list[Row]) -> str:
    """The embedded checkpoint's table, with the cost and losses of its training first."""
    last = log[-1]
    cost = f"{last['seconds'] / 3600:.1f} hours of steps, {last['tokens'] / 1e6:.1f} M tokens of texts and canvases"
    losses = f"{last['heldout_slot']:.2f} nats a free slot, {last['heldout_causal']:.2f} a token of plain text"
    head, rule, *lines = render(rows).splitlines()
    return "\n".join([head, rule, f"| training | {cost} |", f"| held-out losses | {losses} |", *lines]) + "\n"


def placed(text: str, table: str, name: str = "figures") -> str:
    """The text with the table between markers of a name. Raises ValueError unless each is there once, in order."""
    begin, end = BEGIN.replace("figures", name), END.replace("figures", name)
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed or begin in after or end in after:
        raise ValueError(f"needs {begin} and after it {end}, once each")
    return f"{before}{begin}\n{table}{end}{after}"


def main(argv: list[str], rows: Path = ROWS, root: Path = ROOT, card: Path = CARD) -> int:
    """Write, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args(argv).check
    found, log = _objects(rows), _objects(card.parent / "log.jsonl")
    pages = [
        (root / "README.md", "figures", render_short(found)),
        (root / "docs/benchmarks.md", "figures", render(found)),
        (root / "docs/experiments.md", "figures", "\n".join(filter(None, (render_tried(found), render_others(found))))),
        (card, "figures", render_card(found, log)),
        *((root / page, name, table) for page, name, table in others(found)),
    ]
    differs = 0
    for page, name, table in pages:
        old = page.read_text(encoding="utf-8")
        try:
            new = placed(old, table, name)
        except ValueError as error:
            sys.stderr.write(f"{page}: {error}\n")
            return 1
        if new != old and check:
            sys.stderr.write(f"{page}: differs from {rows.name}; run benchmarks/tables.py\n")
            differs = 1
        elif new != old:
            page.write_text(new, encoding="utf-8")
    return differs


def _objects(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
