"""Checks that a captured step decides as its launches one by one do, and as plain torch does."""

from __future__ import annotations

from typing import Any

import torch
from gpu_network import SMALL, config_json, random_backend

from midspan.engine.backends.backend import CanvasBackend
from midspan.engine.backends.cuda_graph import StepGraph
from midspan.engine.canvas import Canvas, Plan, Rng
from midspan.engine.denoise import Step
from midspan.engine.model import DiffusionGemma, ModelConfig

DECIDED = ("draft", "canvas", "accepted", "finished")
STATE = ("current", "draft", "soft", "entropy", "finished", "step")
STEPS = 2  # two, because the second reads the first one's soft embeddings


def replay_row(graph: StepGraph) -> dict[str, Any]:
    """Replays of a graph that has begun against its launches from the same state; `error` names what differs."""
    begun = {name: getattr(graph, name).clone() for name in STATE}
    replayed = _after(graph, graph.run)
    for name, value in begun.items():
        getattr(graph, name).copy_(value)
    launched = _after(graph, graph._launch)
    wrong = [name for name in STATE if not torch.equal(replayed[name], launched[name])]
    if int(replayed["step"]) != STEPS:
        wrong.append(f"step is {int(replayed['step'])} after {STEPS}")
    row = {"canvases": graph.size.batch, "width": graph.size.width, "captured": graph._graph is not None}
    return row if not wrong else row | {"error": f"a replay differs from its launches: {', '.join(wrong)}"}


def _after(graph: StepGraph, run: Any) -> dict[str, torch.Tensor]:
    """The state after some steps."""
    for _ in range(STEPS):
        run()
    return {name: getattr(graph, name).clone() for name in STATE}


@torch.inference_mode()
def decisions_row(device: torch.device) -> dict[str, Any]:
    """A seeded run of a tiny float32 network in plain torch and captured; `error` names the first difference."""
    # The torch loop numbers its random numbers as the kernels do.
    from tests.kernels.counted import CountedBackend

    with torch.inference_mode(mode=False):
        torch.manual_seed(0)
        kernels = random_backend(SMALL, "bf16", device)  # SMALL's plain weights are float32
        plain = DiffusionGemma(ModelConfig.from_json(config_json(SMALL))).to(device).eval()
        plain.load_state_dict(kernels.model.state_dict())
    left, right = _steps(CountedBackend(plain)), _steps(kernels)
    for one, other in zip(left, right, strict=False):
        for name in DECIDED:
            if not torch.equal(getattr(one, name).cpu(), getattr(other, name).cpu()):
                return {"error": f"step {one.number}: {name} differs from plain torch's"}
    steps = {"steps": len(right)}
    return steps if len(left) == len(right) else steps | {"error": f"plain torch takes {len(left)} steps"}


def _steps(backend: CanvasBackend) -> list[Step]:
    """The steps of two canvases of 12 positions with gaps of 8 and 5 slots; one of them survives the first step."""
    device, cache = backend.device, backend.new_cache(16)
    backend.prefill(torch.arange(7, device=device)[None] % backend.vocab_size, cache)
    free = torch.arange(12, device=device)[None] < torch.tensor([[8], [5]], device=device)
    canvas = Canvas(ids=torch.arange(24, device=device).view(2, 12).where(~free, 0), free=free)
    plan = Plan(steps=4, entropy_bound=2.0, survivors=1, confidence_threshold=0.0)
    return list(backend.bind(cache, canvas).steps(plan, Rng(3, device)))
