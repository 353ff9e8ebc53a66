"""What is recommended fits, and is no slower than it may be; estimates grow with the model and with the machine."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midspan.engine.api import Glance, Speed
from midspan.engine.bench.speed import shortest
from midspan.server.cli import main
from midspan.server.models.at_hand import AtHand, Found
from midspan.server.models.catalogue import FILE, catalogue
from midspan.server.models.configuration import Choice
from midspan.server.models.estimate import estimates, fill_ms
from midspan.server.models.listing import Listing, as_text, took
from midspan.server.models.machine import Machine, this_machine
from midspan.server.models.recommend import MOST_MS, fits, recommended

GB = 10**9
MACHINES = st.builds(
    Machine,
    memory=st.integers(0, 512 * GB),
    cores=st.integers(1, 256),
    gpu=st.just("a GPU"),
    gpu_memory=st.just(0) | st.integers(0, 200 * GB),
)
# Of one with two cores and of one with sixteen.
SLOW, QUICK = Speed(token=8e-11, row=1e-11), Speed(token=1e-11, row=1e-12)


@given(machine=MACHINES)
def test_what_is_recommended_fits(machine: Machine) -> None:
    name = recommended(machine, catalogue().values(), {})
    if name == "embedded":
        return
    model = catalogue()[name]
    assert fits(model, machine)
    assert model.gpu_memory <= machine.gpu_memory or model.memory < machine.memory
    assert model.terms is None, "whether a licence allows it is not for midspan to say"


@given(machine=MACHINES, more=st.integers(0, 200 * GB))
def test_more_memory_recommends_no_smaller_model(machine: Machine, more: int) -> None:
    larger = Machine(memory=machine.memory + more, cores=machine.cores, gpu="x", gpu_memory=machine.gpu_memory)
    sizes = {"embedded": 0, **{one.name: one.parameters for one in catalogue().values()}}
    before, after = (sizes[recommended(one, catalogue().values(), {})] for one in (machine, larger))
    assert after >= before


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (Machine(memory=8 * GB, cores=2), "embedded"),
        (Machine(memory=3 * GB, cores=64), "embedded"),
        (Machine(memory=4 * GB, cores=64), "qwen2.5-coder-0.5b"),
        (Machine(memory=8 * GB, cores=64), "qwen2.5-coder-1.5b"),
        (Machine(memory=8 * GB, cores=8), "qwen2.5-coder-0.5b"),
        (Machine(memory=32 * GB, cores=16), "qwen2.5-coder-1.5b"),
        (Machine(memory=1000 * GB, cores=256), "qwen2.5-coder-1.5b"),
        (Machine(memory=16 * GB, cores=8, gpu="8 GB", gpu_memory=8 * GB), "qwen2.5-coder-1.5b"),
        (Machine(memory=16 * GB, cores=8, gpu="24 GB", gpu_memory=24 * GB), "qwen2.5-coder-7b"),
        (Machine(memory=128 * GB, cores=16, gpu="H200", gpu_memory=141 * GB), "diffusiongemma"),
        (Machine(memory=0, cores=1), "embedded"),
    ],
    ids=str,
)
def test_what_a_machine_is_recommended(machine: Machine, name: str) -> None:
    assert recommended(machine, catalogue().values(), {}) == name


def test_a_machine_without_a_gpu_fits_what_is_packed_as_it_is_read() -> None:
    """A byte a parameter and the vocabulary in float32; the large canvas network is in plain torch."""
    known = catalogue()
    assert known["qwen2.5-coder-7b"].memory == 7_615_000_000 + 4 * 544_997_376 + GB
    fitting = [one.name for one in known.values() if fits(one, Machine(memory=16 * GB, cores=8))]
    assert fitting == ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "qwen2.5-coder-3b", "qwen2.5-coder-7b"]
    assert not fits(known["diffusiongemma"], Machine(memory=100 * GB, cores=64))


def test_what_is_too_slow_is_not_recommended() -> None:
    machine = Machine(memory=32 * GB, cores=16)
    slow = {"qwen2.5-coder-1.5b": MOST_MS + 1}
    assert recommended(machine, catalogue().values(), slow) == "qwen2.5-coder-0.5b"
    assert recommended(machine, catalogue().values(), {**slow, "qwen2.5-coder-0.5b": 2000.0}) == "embedded"


@given(layers=st.integers(1, 10**11), head=st.integers(0, 10**9), more=st.integers(1, 10**9))
def test_an_estimate_grows_with_the_model_and_with_the_slowness(layers: int, head: int, more: int) -> None:
    slow, quick, larger = fill_ms(SLOW, layers, head), fill_ms(QUICK, layers, head), fill_ms(SLOW, layers + more, head)
    assert slow is not None
    assert quick is not None
    assert larger is not None
    assert 0 < quick < slow < larger


def test_an_estimate_is_what_it_says() -> None:
    # 40 rows of a billion parameters, and 10 steps of those and half a billion.
    assert fill_ms(SLOW, 10**9, 5 * 10**8) == pytest.approx(1000 * (40 * 1e-11 * 1e9 + 10 * 8e-11 * 1.5e9))
    assert fill_ms(Speed(gpu="x", gpu_bytes=1), 10**9, 0) is None
    assert fill_ms(SLOW, 0, 0) is None


def test_estimates_are_of_what_the_headers_say() -> None:
    glance = Glance(layout="marks", in_layers=10**9, in_head=0)
    canvas = Glance(layout="prompted", in_layers=10**9, in_head=0)
    models = tuple(
        Found(name=name, checkpoint=name, program="LM Studio", glance=one)
        for name, one in (("a", glance), ("b", canvas), ("c", None))
    )
    found = estimates(Speed(embedded_ms=20.0, token=8e-11, row=1e-11), AtHand(models, ()))
    assert found["a"] == fill_ms(SLOW, 10**9, 0)
    assert found["embedded"] == 20.0
    assert {"b", "c", "diffusiongemma"}.isdisjoint(found)
    assert found["qwen2.5-coder-0.5b"] < found["qwen2.5-coder-1.5b"] < found["qwen2.5-coder-7b"]
    assert dict(estimates(Speed(), AtHand(models, ()))) == {}


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [(None, ""), (19.6, "about 20 ms"), (104.0, "about 100 ms"), (996.0, "about 1 s"), (2345.0, "about 2.3 s")],
)
def test_estimates_are_said_to_two_digits(milliseconds: float | None, said: str) -> None:
    assert took(milliseconds) == said


def listing(machine: Machine, *models: Found, checkpoint: str = "embedded") -> Listing:
    embedded = Found(name="embedded", checkpoint="embedded", program="midspan", glance=Glance(layout="filler"))
    choice = Choice(checkpoint, "the default")
    return Listing(hand=AtHand((embedded, *models), ()), machine=machine, choice=choice, fill_ms={})


def test_the_last_line_says_what_to_do() -> None:
    large, small = Machine(memory=8 * GB, cores=8), Machine(memory=8 * GB, cores=2)
    qwen = Found(name="qwen2.5-coder-0.5b", checkpoint="/q.gguf", program="hub cache", glance=Glance(layout="marks"))
    ends = {
        "0.5b; it is not at hand, fetch it with: midspan models get qwen2.5-coder-0.5b": listing(large),
        "qwen2.5-coder-0.5b; take it with: midspan models use qwen2.5-coder-0.5b": listing(large, qwen),
        "qwen2.5-coder-0.5b; it is in use": listing(large, qwen, checkpoint="/q.gguf"),
        "embedded, as larger ones are too large or too slow here; it is in use": listing(small),
    }
    for end, one in ends.items():
        last = as_text(one).splitlines()[-1]
        assert last.startswith(f"Recommended here ({one.machine}): ")
        assert last.endswith(end)


def test_the_catalogue_holds_together() -> None:
    assert len(catalogue()) == len(json.loads(FILE.read_text()))
    for one in catalogue().values():
        assert one.in_layers + one.in_head <= one.parameters
        assert one.bytes in (None, one.about_bytes)
        assert one.repository.count("/") == 1
        assert one.sha256 is None or one.bytes is not None
    assert catalogue()["qwen2.5-coder-3b"].terms == "non-commercial use only"


def test_this_machine_has_what_it_has() -> None:
    found = this_machine(Speed(gpu="a GPU", gpu_bytes=5 * GB))
    assert found.memory > 10**8
    assert found.cores >= 1
    assert str(found).endswith("GB of memory, a GPU with 5 GB")
    assert str(this_machine(Speed())).endswith("GB of memory, no GPU")
    assert str(this_machine(None)).endswith("GB of memory, GPU not looked for")


def test_the_shortest_time_counts() -> None:
    times = iter((0.0, 0.0, 0.3, 0.3, 0.35, 0.4, 0.49, 0.6, 0.6))
    assert shortest(lambda: None, lambda: next(times)) == pytest.approx(0.05)


def test_the_speed_of_this_machine_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    times = {one["name"]: one["fill_ms"] for one in (*found["at_hand"], *found["to_fetch"])}
    # Between a server's hundred cores and a busy phone's.
    assert 1 < times["embedded"] < 60_000
    assert 10 < times["qwen2.5-coder-0.5b"] < times["qwen2.5-coder-7b"]


def test_what_cannot_be_measured_is_listed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--device", "cuda"]) == 0
    out, error = capsys.readouterr()
    assert error.startswith("midspan: nothing is estimated: device cuda: torch sees no GPU here; ")
    assert "GPU not looked for" in out
    assert "estimate" not in out
