"""Which model of the catalogue suits a machine: the largest that fits and keeps up with typing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from midspan.server.models.catalogue import EMBEDDED, Known
from midspan.server.models.machine import Machine

# The editor and everything else on the machine keep the rest.
OUR_SHARE = 0.6
# The server's own patience with a fill, see deadline_ms.
MOST_MS = 1000.0


def recommended(machine: Machine, models: Iterable[Known], fill_ms: Mapping[str, float]) -> str:
    """The name of the largest model that runs well here; the embedded one where none does.

    What is estimated to take longer than MOST_MS is too slow, whatever the cores promise. Models whose licence has
    further terms are never recommended: whether they may be used is not for us to say.
    """
    quick = (one for one in models if one.terms is None and fill_ms.get(one.name, 0.0) <= MOST_MS)
    fitting = [one for one in quick if _on_gpu(one, machine) or _on_cpu(one, machine)]
    return max(fitting, key=lambda one: one.parameters).name if fitting else EMBEDDED


def fits(model: Known, machine: Machine) -> bool:
    """Whether a model can be loaded at all, however slow it may be."""
    return model.gpu_memory <= machine.gpu_memory or model.memory <= machine.memory


def _on_gpu(model: Known, machine: Machine) -> bool:
    return model.gpu_memory <= machine.gpu_memory


def _on_cpu(model: Known, machine: Machine) -> bool:
    enough = model.memory <= OUR_SHARE * machine.memory
    return enough and model.cores is not None and model.cores <= machine.cores
