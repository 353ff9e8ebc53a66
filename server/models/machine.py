"""What this machine has: memory, cores, and a GPU's memory where torch sees one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from midspan.engine.api import Speed

CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Bytes of memory and of the GPU's memory, 0 where unknown or absent, and the cores that midspan may use.

    `looked` says whether anybody looked for a GPU, which takes torch.
    """

    memory: int
    cores: int
    gpu: str | None = None
    gpu_memory: int = 0
    looked: bool = True

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        none = "no GPU" if self.looked else "GPU not looked for"
        gpu = none if self.gpu is None else f"{self.gpu} with {self.gpu_memory / 1e9:.0f} GB"
        return f"{cores}, {self.memory / 1e9:.0f} GB of memory, {gpu}"


def this_machine(speed: Speed | None) -> Machine:
    """With the GPU that was seen as its speed was measured; None where nothing was.

    Cores and memory as this process may use them: a container's limit counts.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if speed is None:
        return Machine(memory=_memory(), cores=cores, looked=False)
    return Machine(memory=_memory(), cores=cores, gpu=speed.gpu, gpu_memory=speed.gpu_bytes)


def _memory() -> int:
    if not hasattr(os, "sysconf"):
        return 0
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text().strip() if os.access(CGROUP, os.R_OK) else ""
    return min(there, int(limit)) if limit.isdecimal() else there
