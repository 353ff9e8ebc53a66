"""Calls of the CPU's own kernels: their arguments, their masks, and what the backends over them share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch

from midspan.engine.backends.backend import Description
from midspan.engine.next_token import NextToken
from midspan.kernels import native
from midspan.kernels.native import Library


@cache
def product_threads() -> int:
    """Threads of the kernels' products: as many as torch's at the first load, before a worker gives torch one."""
    return torch.get_num_threads()


def call(
    library: Library,
    name: str,
    network: ctypes.Structure,
    *arguments: torch.Tensor | int | ctypes.c_float | ctypes.Structure,
) -> None:
    """Call one of a library's functions on a network. Raises ValueError, as for ids out of range."""
    given: list[object] = []
    for one in arguments:
        if isinstance(one, torch.Tensor):
            assert one.is_contiguous(), "the kernels take no strides"
            given.append(ctypes.c_void_p(one.data_ptr()))
        elif isinstance(one, ctypes.Structure):
            given.append(ctypes.byref(one))
        else:
            given.append(ctypes.c_int64(one) if isinstance(one, int) else one)
    wrong = getattr(library.functions, f"midspan_{name}")(ctypes.byref(network), *given)
    if wrong is not None:
        raise ValueError(wrong.decode())


class CpuCalls:
    """What backends over the kernels share: their description, and the verbs that need a head alone."""

    def __init__(
        self, library: Library, network: native.Network, parameters: int, forms: tuple[str, ...] = ("int8",)
    ) -> None:
        """`forms` are those of the weights in products."""
        self.library, self.network, self._parameters, self._forms = library, network, parameters, forms

    @property
    def vocab_size(self) -> int:
        """See Backend."""
        return int(self.network.head.n)

    @property
    def device(self) -> torch.device:
        """See Backend."""
        return torch.device("cpu")

    def describe(self) -> Description:
        """See Backend."""
        return Description(
            device="cpu",
            dtype="float32",
            threads=product_threads(),
            parameters=self._parameters,
            kernels=(("network", f"native, {self.library.name}"), ("products", " and ".join(self._forms))),
            own_threads=True,
        )

    def watch(self, stop: Callable[[], bool]) -> None:
        """See Backend; the passes of a small network are short."""

    def warm(self, run: Callable[[], object]) -> None:
        """See Backend; nothing is compiled at run time."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See Backend."""
        rows = rows_of(hidden)
        out = torch.empty(len(rows), self.vocab_size)
        self._call("logits", rows, len(rows), out)
        return out.view(*hidden.shape[:-1], self.vocab_size)

    def log_probabilities(self, hidden: torch.Tensor, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """See Backend."""
        hidden, out = rows_of(hidden), torch.empty(len(wanted))
        room = torch.empty(len(hidden), self.vocab_size)
        self._call("log_probabilities", hidden, len(hidden), rows, wanted, len(wanted), room, out)
        return out

    def next_token(self, hidden: torch.Tensor, inner: torch.Tensor, stops: torch.Tensor, width: int) -> NextToken:
        """See Backend."""
        rows, count = rows_of(hidden), len(hidden)
        logits, values = torch.empty(count, self.vocab_size), torch.empty(count, width)
        ids, (ends, log_sum) = torch.empty(count, width, dtype=torch.long), torch.empty(2, count)
        self._call("following", rows, count, inner, stops, width, logits, values, ids, ends, log_sum)
        return NextToken(values, ids, ends, log_sum, logits)

    def _call(self, name: str, *arguments: torch.Tensor | int | ctypes.c_float | ctypes.Structure) -> None:
        """See `call`; on this network."""
        call(self.library, name, self.network, *arguments)


class Mask(NamedTuple):
    """A mask for the kernels, and the tensor that it points to, which must live as long."""

    sees: native.Sees
    seen: torch.Tensor | None = None

    @classmethod
    def of_none(cls) -> Mask:
        """No mask: every row sees every key."""
        return cls(native.Sees())

    @classmethod
    def by_row(cls, seen: torch.Tensor, first: int) -> Mask:
        """From boolean [N, keys from `first` on]; earlier keys are visible."""
        if len(seen) == 1 and bool(seen.all()):
            return cls.of_none()
        rows, keys = seen.shape
        out = torch.zeros(keys, rows + native.SPARE, dtype=torch.bool)
        out[:, :rows] = seen.T
        return cls(native.Sees(out.data_ptr(), first, 0, rows + native.SPARE, 1), out)

    @classmethod
    def by_key(cls, seen: torch.Tensor, first: int) -> Mask:
        """From boolean [1 or B, keys from `first` on] for all rows of a canvas; earlier keys are visible."""
        out = seen.contiguous()
        return cls(native.Sees(out.data_ptr(), first, out.shape[1] if len(out) > 1 else 0, 1, 0), out)


def rows_of(tensor: torch.Tensor) -> torch.Tensor:
    """[.., d] as contiguous [R, d]."""
    return tensor.reshape(tensor.numel() // tensor.shape[-1], tensor.shape[-1]).contiguous()


def addresses(of: Sequence[int]) -> ctypes.Array[ctypes.c_void_p]:
    """Pointers as an array that lives as long as the object."""
    return (ctypes.c_void_p * len(of))(*of)
