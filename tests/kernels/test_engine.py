"""The whole engine over the kernels (in Triton's interpreter) decides as plain torch does, at every step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from midspan.engine.api import Budget, DeviceError, Hole
from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.backends.choose import choose
from midspan.engine.backends.cuda_graph import Limits, Room, Size, StepGraph
from midspan.engine.backends.gpu import TritonBackend
from midspan.engine.backends.plain import TorchCanvasBackend
from midspan.engine.backends.triton import FusedNetwork, unsupported
from midspan.engine.cache import Cache
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Step
from midspan.engine.hypotheses.task import FillObserver
from midspan.engine.infill import Infiller
from midspan.engine.model import DiffusionGemma, Layer, ModelConfig
from midspan.engine.prompts.chat import ChatPrompt
from midspan.engine.weights.midspan_json import read_settings
from midspan.engine.weights.quantized import Fp8Linear, QuantizedExperts, Stored, quantize_experts, quantize_linear
from tests.engine.chatting import chat_checkpoint
from tests.engine.tiny import config_json, random_model, tiny_infiller
from tests.kernels.compare import DEVICE
from tests.kernels.counted import CountedBackend, record

PATIENT = FillObserver(interrupted=lambda: False, late=lambda: False)
# The interpreter takes seconds for each test, and minutes on a busy machine.
pytestmark = pytest.mark.timeout(400)
HOLE = Hole(prefix="def add(a, b):\n    retu", suffix="\n")
HEADS = {"head_dim": 16, "global_head_dim": 32, "sliding_window": 8}


def fused(model: DiffusionGemma, config: dict[str, object]) -> TritonBackend:
    """A backend that runs the same weights on the kernels."""
    out = DiffusionGemma(ModelConfig.from_json(config)).to(DEVICE).eval()
    out.load_state_dict(model.state_dict())
    return TritonBackend(out)


def pair(folder: Path, *, layers: int = 2, **changes: object) -> tuple[Infiller, Infiller]:
    """One random float32 checkpoint on plain torch and on the kernels; with one layer it has full attention."""
    made = tiny_infiller(folder, steps=3, **changes)
    kinds = ("sliding_attention", "full_attention")[-layers:]
    config = config_json(made.prompt.vocab_size, **HEADS, num_hidden_layers=layers, layer_types=[*kinds])
    model = random_model(config).to(DEVICE)
    kernels = fused(model, config)
    plain = CountedBackend(model)
    return Infiller(plain, made.prompt, made.settings), Infiller(kernels, made.prompt, made.settings)


def same(left: list[Step], right: list[Step]) -> None:
    assert [step.number for step in left] == [step.number for step in right]
    for one, other in zip(left, right, strict=True):
        for name in ("rows", "draft", "canvas", "accepted", "finished"):
            assert torch.equal(getattr(one, name).cpu(), getattr(other, name).cpu()), (one.number, name)
        torch.testing.assert_close(one.entropy.cpu(), other.entropy.cpu(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reuse", [False, True], ids=["whole canvas", "suffix of the first step"])
def test_a_seeded_infill_decides_the_same_at_every_step(tmp_path: Path, reuse: bool) -> None:
    """Prefix, healing, two gap lengths of which one survives, self-conditioning, noise, ranking."""
    plain, kernels = pair(tmp_path, slots=(4, 8), survivors=1, reuse_suffix=reuse)
    left, right = list[Step](), list[Step]()
    record(plain.backend, left)
    record(kernels.backend, right)
    outs = [one.infill(HOLE, Budget(seed=3), PATIENT) for one in (plain, kernels)]
    assert len(left) == 3
    assert [len(step.rows) for step in left] == [2, 1, 1]
    same(left, right)
    assert [one.ids for one in outs[0].ranked] == [one.ids for one in outs[1].ranked]
    likely = [torch.tensor([one.log_probability for one in out.ranked]) for out in outs]
    torch.testing.assert_close(*likely, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["prompted", "clamped"])
def test_the_released_layouts_decide_the_same_at_every_step(tmp_path: Path, layout: str) -> None:
    """Chat turns, lengths that are read before denoising, ends of turns in the canvas, a frozen suffix."""
    slots = {"prompted": [6], "clamped": [2, 5]}[layout]
    folder = chat_checkpoint(tmp_path, kind=layout, slots=slots, block_slots=slots, draws=1, survivors=1, steps=2)
    chosen = read_settings(folder)
    prompt = ChatPrompt(folder / "tokenizer.json", chosen.layout)
    config = config_json(prompt.vocab_size, **HEADS)
    model = random_model(config).to(DEVICE)
    kernels = Infiller(fused(model, config), prompt, chosen)
    plain = Infiller(CountedBackend(model), prompt, chosen)
    left, right = list[Step](), list[Step]()
    record(plain.backend, left)
    record(kernels.backend, right)
    outs = [one.infill(HOLE, Budget(seed=3), PATIENT) for one in (plain, kernels)]
    assert len(left) == 2
    same(left, right)
    assert [one.ids for one in outs[0].ranked] == [one.ids for one in outs[1].ranked]


def laid(vocab: int) -> Canvas:
    """Three canvases of 12 positions: gaps of 5, 1 and 0 slots, the second padded, healed first tokens, banned ids."""
    column = torch.arange(12, device=DEVICE)[None]
    free = column < torch.tensor([5, 1, 0], device=DEVICE)[:, None]
    valid = column < torch.tensor([12, 9, 12], device=DEVICE)[:, None]
    ids = torch.arange(36, device=DEVICE).view(3, 12) % vocab
    healed = torch.arange(vocab, device=DEVICE) % 3 == 0
    return Canvas(ids=ids.where(~free, 0), free=free, valid=valid, allowed_first=healed, banned=(0, 5, 9))


@pytest.fixture(scope="module")
def small() -> tuple[CountedBackend, TritonBackend]:
    config = config_json(48, **HEADS)
    model = random_model(config)
    kernels = fused(model, config)
    return CountedBackend(model.to(DEVICE)), kernels


def run(backend: CanvasBackend, plan: Plan) -> list[Step]:
    """All steps of the canvases of `laid` behind a prefix of eleven tokens."""
    cache = backend.new_cache(16)
    with torch.inference_mode():
        backend.prefill(torch.arange(11, device=DEVICE)[None], cache)
    return list(backend.bind(cache, laid(48)).steps(plan, Rng(0, DEVICE)))


def test_padding_banned_ids_and_finished_canvases_are_as_in_the_torch_loop(
    small: tuple[CountedBackend, TritonBackend],
) -> None:
    """With this threshold a canvas settles once its draft is stable for a step; the others then go on alone."""
    plan = Plan(steps=5, t_min=0.05, t_max=0.05, entropy_bound=2.0, confidence_threshold=9.0)
    left, right = run(small[0], plan), run(small[1], plan)
    ends = [[False, False, True], [False, True, True], [True, True, True]]
    assert [step.finished.tolist() for step in left] == ends
    same(left, right)
    for step in right:
        assert not torch.isin(step.draft[laid(48).free.cpu()], torch.tensor([0, 5, 9])).any()


def test_on_a_full_device_fewer_canvases_are_tried_and_none_is_an_error(
    small: tuple[CountedBackend, TritonBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for one of three canvases, fewer of each length are tried, then one; without room: one line, a fix."""
    room = 1
    build = StepGraph.__init__

    def crowded(self: StepGraph, network: FusedNetwork, cache: Cache, own: Room, size: Size, limits: Limits) -> None:
        if size.batch > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")
        build(self, network, cache, own, size, limits)

    monkeypatch.setattr(StepGraph, "__init__", crowded)
    backend = TritonBackend(small[1].model)
    steps = run(backend, Plan(steps=1))
    assert backend.loop.most == 1
    assert [step.rows.tolist() for step in steps] == [[0]]
    room = 0
    with pytest.raises(DeviceError, match="no room for one canvas"):
        run(backend, Plan(steps=1))


def test_a_graph_is_captured_once_per_size_and_again_when_the_cache_moves(
    small: tuple[CountedBackend, TritonBackend],
) -> None:
    backend = TritonBackend(small[1].model)
    cache, plan, graphs = backend.new_cache(16), Plan(steps=1), backend.loop.graphs
    with torch.inference_mode():
        backend.prefill(torch.arange(5, device=DEVICE)[None], cache)
    list(backend.bind(cache, laid(48)).steps(plan, Rng(5, DEVICE)))
    (first,) = graphs.values()
    list(backend.bind(cache, laid(48)).steps(plan, Rng(6, DEVICE)))
    assert list(graphs.values()) == [first]
    cache.reserve(100)
    list(backend.bind(cache, laid(48)).steps(plan, Rng(6, DEVICE)))
    assert list(graphs.values()) != [first]


def test_other_threads_may_use_the_device_while_a_step_is_captured(
    small: tuple[CountedBackend, TritonBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's default mode, the strictest, fails a capture if another thread allocates memory."""
    network, modes, launched = small[1].network, list[str](), list[int]()

    class Stream:
        def wait_stream(self, stream: Stream) -> None:
            """Nothing is queued in this fake."""

    @contextmanager
    def capture(
        graph: object, pool: object = None, stream: object = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        modes.append(capture_error_mode)
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(StepGraph, "_launch", lambda self: launched.append(int(self.step)))
    cache, room = small[1].new_cache(16), network.room(1, 16)
    size = Size(batch=1, rows=16, width=16, free=16, steps=4)
    StepGraph(network, cache, room, size, Limits(0.1, 0.1)).capture(None)
    assert modes == ["thread_local"]
    assert launched == [0, 0, 0]


def quantised(model: DiffusionGemma, form: str) -> DiffusionGemma:
    """The same network with its experts in `form`; for FP8 its other matrices as well."""
    everything = (slice(None),)
    with torch.no_grad():
        for layer in (one for one in model.layers if isinstance(one, Layer)):
            plain = layer.experts
            quantize_experts(layer, form)
            owner = layer.get_submodule("experts")
            assert isinstance(owner, QuantizedExperts)
            for name in ("gate_up_proj", "down_proj"):
                owner.put(name, everything, Stored(value=plain.get_parameter(name)))
            for parent in (layer.self_attn, layer.mlp) if form == "fp8" else ():
                for name in [name for name, one in parent.named_children() if isinstance(one, torch.nn.Linear)]:
                    weight = parent.get_submodule(name).get_parameter("weight")
                    quantize_linear(parent, name)
                    made = parent.get_submodule(name)
                    assert isinstance(made, Fp8Linear)
                    made.put("weight", everything, Stored(value=weight))
    return model


@pytest.mark.parametrize("form", ["fp8", "int4"])
def test_quantised_weights_run_on_kernels_of_their_own(form: str) -> None:
    """Against the same weights in torch. A value that rounds to the other FP8 code has an error of 2^-4; few do."""
    config = config_json(48, **HEADS)
    plain = TorchCanvasBackend(quantised(random_model(config), form).to(DEVICE))
    kernels = TritonBackend(quantised(random_model(config), form).to(DEVICE))
    text = torch.arange(6, device=DEVICE)[None]
    with torch.inference_mode():
        want, got = plain.prefill(text, plain.new_cache()), kernels.prefill(text, kernels.new_cache())
    assert (got - want).abs().mean() < (1e-2 if form == "fp8" else 1e-5) * want.abs().mean()


def test_the_backend_reports_its_kernels(small: tuple[CountedBackend, TritonBackend]) -> None:
    plain = dict(choose(small[0].model.cpu(), int8=False).describe().kernels)
    small[0].model.to(DEVICE)
    assert plain.pop("network") == "torch, as it has more than one expert"
    assert set(plain.values()) == {"reference"}
    kernels = dict(small[1].describe().kernels)
    assert kernels | {"step": "cuda graph", "attention": "triton"} == kernels


def test_unsupported_head_sizes_are_named() -> None:
    assert (
        unsupported(ModelConfig.from_json(config_json(48))) == "heads of size 8 are not a power of two from 16 to 512"
    )
    assert unsupported(ModelConfig.from_json(config_json(48, **HEADS))) is None
