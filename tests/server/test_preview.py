"""Frames of the preview: at most fifteen a second, the settled one always, none after the answer."""

from __future__ import annotations

from typing import Any

from lsprotocol import types

from midspan.engine.api import Frame, Hole
from midspan.server.completion import Completion
from midspan.server.preview import Preview
from midspan.server.text.documents import Document
from midspan.server.text.trial import Trial

HERE = types.Position(3, 4)
ASKED = Completion(
    id="q1",
    uri="file:///a.py",
    version=7,
    hole=Hole(prefix="", suffix=""),
    range=types.Range(HERE, types.Position(3, 6)),
    selected="sel",
    invoked=False,
    line_end="\n",
    trial=Trial(Document("file:///a.py", "python", 7, ""), (0, 0), (0, 0)),
)


def frame(step: int, settled: bool = False) -> Frame:
    return Frame(step=step, steps=99, text=f"_{step}", cells=(), settled=settled)


def shown(steps: range, seconds_a_step: float, settled: int = -1) -> list[dict[str, Any]]:
    """The notifications for steps of the canvas at this pace."""
    sent: list[dict[str, Any]] = []
    now = 0.0
    preview = Preview(lambda _, params: sent.append(params), ASKED, lambda: now)
    for step in steps:
        now = step * seconds_a_step
        preview.show(frame(step, step == settled))
    return sent


def test_a_frame_has_its_requests_id_document_and_position() -> None:
    sent: list[tuple[str, Any]] = []
    Preview(lambda method, params: sent.append((method, params)), ASKED).show(frame(1))
    params = {"id": "q1", "uri": "file:///a.py", "version": 7, "position": HERE, "text": "sel_1", "settled": False}
    assert sent == [("midspan/frame", params)]


def test_slow_frames_are_all_sent() -> None:
    assert len(shown(range(10), 0.1)) == 10


def test_fast_frames_are_thinned_to_fifteen_a_second() -> None:
    sent = shown(range(1000), 0.001)
    assert 14 <= len(sent) <= 16
    assert sent[0]["text"] == "sel_0"


def test_the_settled_frame_is_sent_at_any_pace() -> None:
    assert [params["text"] for params in shown(range(20), 0.001, settled=19)] == ["sel_0", "sel_19"]


def test_nothing_is_shown_after_the_end() -> None:
    sent: list[Any] = []
    preview = Preview(lambda _, params: sent.append(params), ASKED)
    preview.end()
    preview.show(frame(1, settled=True))
    assert sent == []
