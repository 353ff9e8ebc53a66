"""A training run's state on disk: weights and optimiser moments in one safetensors file, swapped in by a rename."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

STATE = "state.safetensors"


@dataclass(slots=True)
class Progress:
    """Where a run stands. `cpu_seconds` are the process's own; time that it was stopped does not count."""

    step: int = 0
    cpu_seconds: float = 0.0
    tokens: int = 0
    learnt: int = 0
    saves: int = 0
    restarts: int = 0


def write_state(folder: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Write the state so that a kill at any moment leaves the older or the newer one whole."""
    written = folder / (STATE + ".new")
    save_file(tensors, written, metadata={"progress": json.dumps(asdict(progress))})
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(folder / STATE)


def read_state(folder: Path) -> tuple[dict[str, Tensor], Progress] | None:
    """The state of a folder, or None where no run has saved one."""
    if not (folder / STATE).exists():
        return None
    with safe_open(folder / STATE, framework="pt") as file:
        progress = Progress(**json.loads(file.metadata()["progress"]))
        return {name: file.get_tensor(name) for name in file.keys()}, progress  # noqa: SIM118


def moments(optimiser: torch.optim.Optimizer, masters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights and AdamW's two moments by name, as `write_state` takes them."""
    found = {f"master.{name}": master.detach() for name, master in masters.items()}
    for name, master in masters.items():
        for key in ("exp_avg", "exp_avg_sq"):
            if key in optimiser.state[master]:
                found[f"{key}.{name}"] = optimiser.state[master][key]
    return found


@torch.no_grad()
def restore(
    tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer, masters: dict[str, Tensor], step: int
) -> None:
    """Put weights and moments back; `step` is AdamW's count."""
    for name, master in masters.items():
        master.copy_(tensors[f"master.{name}"])
        kept = {key: tensors[f"{key}.{name}"] for key in ("exp_avg", "exp_avg_sq")}
        optimiser.state[master] = {"step": torch.tensor(float(step)), **kept}
