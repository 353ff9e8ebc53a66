"""Choose the backend of a checkpoint's network, once, at load; `midspan doctor` reports it."""

from __future__ import annotations

from pathlib import Path

import torch

from midspan.engine.api import DeviceError, OnProgress
from midspan.engine.backends import triton
from midspan.engine.backends.backend import Backend, CanvasBackend
from midspan.engine.backends.cpu import CpuBackend
from midspan.engine.backends.cpu_decoder import CpuDecoder
from midspan.engine.backends.cpu_decoder_weights import unfit_decoder
from midspan.engine.backends.cpu_weights import unfit
from midspan.engine.backends.gpu import TritonBackend
from midspan.engine.backends.plain import TorchBackend, TorchCanvasBackend
from midspan.engine.backends.process import return_free_memory
from midspan.engine.llama import LlamaConfig
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.settings import Quantize
from midspan.engine.weights.gguf_file import GgufFile
from midspan.engine.weights.load import Uninitialised, load_weights
from midspan.engine.weights.load_gguf import read_gguf
from midspan.engine.weights.load_llama import Weights, parameter_shapes, read_llama
from midspan.engine.weights.quantized import precision
from midspan.kernels import native
from midspan.kernels.native import Library


def load_backend(
    folder: Path, config: ModelConfig, place: torch.device, quantize: Quantize, progress: OnProgress | None = None
) -> CanvasBackend:
    """Load a checkpoint's network into a backend: Triton kernels, the CPU's own kernels, or plain torch.

    Raises CheckpointError, DeviceError, or torch.OutOfMemoryError of a GPU.
    """
    # A module on `meta` takes no memory yet, but filling it imports sympy, which costs a small network half a second.
    small = place.type == "cpu" and unfit_kind(config) is None
    with torch.device("cpu" if small else "meta"), Uninitialised():
        model = DiffusionGemma(config)
    forms = load_weights(model, folder, _dtype(config, place), place, quantize=quantize, progress=progress)
    return choose(model.eval(), int8="int8" in forms)


def load_causal(folder: Path, config: LlamaConfig, place: torch.device, progress: OnProgress | None = None) -> Backend:
    """Load a network of the `llama` family into a backend: the CPU's own kernels in int8 and int4, or plain torch.

    Raises CheckpointError, DeviceError, or torch.OutOfMemoryError of a GPU.
    """
    return choose_causal(config, read_llama(folder, config, progress), place)


def load_causal_gguf(
    found: GgufFile, config: LlamaConfig, place: torch.device, progress: OnProgress | None = None
) -> Backend:
    """The same from a GGUF file, whatever its forms; see load_causal."""
    return choose_causal(config, read_gguf(found, config, progress), place)


def causal_of(config: LlamaConfig, place: torch.device) -> Backend:
    """A backend over a network of these sizes whose weights are all alike, to time it. Raises DeviceError."""
    shapes = parameter_shapes(config)
    alike = ((name, torch.full(shape, 0.01)) for name, shape in shapes.items())
    return choose_causal(config, Weights(shapes, alike), place)


def _library() -> Library | None:
    """The kernels for this CPU; None where there are none. Raises DeviceError for a build of another version."""
    try:
        return native.library()
    except RuntimeError as error:
        raise DeviceError(str(error)) from error


def _no_decoder(config: LlamaConfig, place: torch.device) -> str | None:
    """Why a network of the `llama` family does not run on the CPU's own kernels; None if it does."""
    if place.type != "cpu":
        return f"there are no kernels for {place.type}"
    library = _library()
    return native.absent() if library is None else unfit_decoder(config, library.lanes)


def choose_causal(config: LlamaConfig, weights: Weights, place: torch.device) -> Backend:
    """The backend of a network whose weights are read as it takes them. Raises CheckpointError, DeviceError."""
    library, why = _library(), _no_decoder(config, place)
    if library is not None and why is None:
        weights.check_memory(place, each=1)
        decoder = CpuDecoder(config, weights.tensors, library)
        return_free_memory()
        return decoder
    network = weights.network(config, fastest_dtype(place), place)
    return TorchBackend(network, (("network", f"torch, as {why}"),))


def choose(model: DiffusionGemma, *, int8: bool) -> CanvasBackend:
    """The fastest backend for a network whose weights are loaded; `int8` says that they were stored in int8."""
    if model.device.type == "cuda":
        why = triton.unsupported(model.config)
        return TritonBackend(model) if why is None else TorchCanvasBackend(model, why)
    library = _library()
    why = _no_kernels(model, library, int8=int8)
    return CpuBackend(model, library) if library is not None and why is None else TorchCanvasBackend(model, why or "")


def _no_kernels(model: DiffusionGemma, library: Library | None, *, int8: bool) -> str | None:
    """Why a network does not run on the CPU's own kernels; None if it does."""
    if "+" in precision(model):
        return "its weights have fewer bits"
    if (kind := unfit_kind(model.config)) is not None:
        return kind
    if library is None:
        return native.absent()
    # Only weights that were rounded to int8 already are packed in int8; others keep their precision.
    return unfit(model.config, library.lanes) or (None if int8 else "its weights are not in int8")


def unfit_kind(config: ModelConfig) -> str | None:
    """Why the CPU's kernels do not know this kind of network; None if they do."""
    if config.experts > 1:
        return "it has more than one expert"
    if {(shape.kv_heads, shape.head_dim) for shape in config.layers} != {(config.heads, config.layers[0].head_dim)}:
        return "its layers' heads differ or share keys"
    return None


def _dtype(config: ModelConfig, place: torch.device) -> torch.dtype:
    """The dtype that weights are read in: the CPU's kernels are packed from float32."""
    if place.type == "cuda":
        return torch.bfloat16
    return torch.float32 if unfit_kind(config) is None else fastest_dtype(place)


def fastest_dtype(place: torch.device) -> torch.dtype:
    """bf16 if the hardware multiplies it, else float32."""
    units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if place.type == "cuda" or units else torch.float32
