"""The figures of `bench load`: of a known run, of a server that counts, and their words."""

from __future__ import annotations

from typing import Any

import pytest

from midspan.server.bench.load_figures import Device, elsewhere, figures, here, lines
from midspan.server.bench.load_requests import Asked, Tally


def asked(began: float, ended: float, outcome: str, **more: Any) -> Asked:
    return Asked(began, ended, outcome, **more)  # type: ignore[arg-type]


def test_the_figures_of_a_known_run() -> None:
    tally = Tally(began=100.0, ended=110.0, keys=50, lines=5, shown=3, useful_ms=[40.0, 60.0], late_ms=[1.0])
    tally.asked = [
        asked(100.0, 102.0, "answered", work_s=1.5, queue_s=0.5, forwards=4),
        asked(102.0, 103.0, "empty", work_s=1.0, queue_s=0.0, forwards=2),
        asked(103.0, 104.0, "cancelled", work_s=0.5, queue_s=0.5, forwards=1),
        asked(104.0, 105.0, "late", work_s=0.0, queue_s=1.0),
        asked(105.0, 105.0, "failed", error="no answer"),
        # Still under way at the end.
        asked(108.0, 0.0, "open"),
        asked(109.0, 111.0, "cancelled"),
    ]
    found = figures(tally, here(tally), 3.6)
    assert (found["requests"], found["cancelled"], found["late"]) == (5, 0.2, 0.2)
    assert found["cancelled_time"] == 1 / 5
    assert found["errors"] == {"no answer": 1}
    assert found["first_useful_ms"] == {"p50": 40.0, "p95": 60.0, "p99": 60.0}
    assert found["answer_ms"]["p95"] == 2000.0
    assert found["queue_ms"]["p95"] == 500.0
    assert found["completions_per_s"] == 0.2
    # Five seconds, and of those under way two and one.
    assert found["in_flight"] == 0.8
    assert (found["at_work"], found["utilisation"], found["slots"]) == (0.3, 0.3, 1.0)
    assert (found["forwards"], found["forwards_per_accepted"]) == (7.0, 3.5)
    assert (found["device_s_per_accepted"], found["busy_s_per_accepted"]) == (5.0, 1.5)
    assert found["price_per_accepted"] == pytest.approx(5.0 * 3.6 / 3600)


def test_a_servers_own_counts_are_taken_for_the_run() -> None:
    tally = Tally(began=0.0, ended=10.0, asked=[asked(1.0, 2.0, "answered", forwards=9)])
    before = {"forwards": 100.0, "busy_s": 1.0, "queue_s": 1.0, "begun": 10.0, "slots": 4.0}
    after = {"forwards": 130.0, "busy_s": 21.0, "queue_s": 3.0, "begun": 30.0, "slots": 4.0}
    device = elsewhere(tally, before, after, token_by_token=True)
    assert device == Device(forwards=30.0, forwards_by="metrics of the server", busy_s=20.0, slots=4.0, queue_ms=100.0)
    found = figures(tally, device, None)
    assert (found["at_work"], found["utilisation"]) == (2.0, 0.5)
    assert elsewhere(tally, {}, {}, token_by_token=True).forwards == 9.0
    # Of canvases a piece says nothing of the passes.
    assert elsewhere(tally, {}, {}, token_by_token=False) == Device()


def test_the_words_name_what_is_not_known_and_a_machine_that_is_too_busy() -> None:
    tally = Tally(began=0.0, ended=10.0, keys=5, lines=1, late_ms=[80.0])
    run = {"backend": "there", "checkpoint": "qwen", "users": 9, "texts": 2, "interrupted": True}
    said = [*lines(run | figures(tally, Device(), None))]
    assert said[0] == "there (qwen): 9 people, 2 texts, 10.0 s, interrupted"
    assert "time to a useful edit, from the key before it: unknown" in said
    assert "utilisation: the server does not tell; start it with its metrics on" in said
    assert said[-1].startswith("keys came late by p95 80 ms: this machine is too busy for so many people")
    told = Device(forwards=30.0, forwards_by="metrics of the server", busy_s=20.0, slots=4.0, queue_ms=12.5)
    tally.useful_ms = [30.0, 50.0]
    said = [*lines(run | figures(tally, told, 3.6))]
    assert "queueing, with the way there and back: unknown; 12.5 ms on average as the server states it" in said
    assert "utilisation: 2.00 requests at work on average, 50.0 % of 4 at once" in said
    cost = "5.00 seconds of the device, 10.00 seconds of requests at work, 15.0 forward passes (metrics of the server)"
    assert f"cost of an accepted edit: {cost}, 0.005000 at a price of 3.6 an hour" in said
