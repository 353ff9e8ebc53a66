"""Which code computes a checkpoint's network here: chosen once, at load, and told by `midspan doctor`."""

from __future__ import annotations

from pathlib import Path

import torch

from midspan.engine import fused
from midspan.engine.api import OnProgress
from midspan.engine.fused import FusedGemma
from midspan.engine.model import DiffusionGemma, ModelConfig
from midspan.engine.native_gemma import NativeGemma
from midspan.engine.native_weights import unfit
from midspan.engine.quantized import precision
from midspan.engine.settings import Quantize
from midspan.engine.weights import Uninitialised, load_weights
from midspan.kernels import native

KERNELS = ("attention", "qkv", "rms_norm", "geglu", "router", "experts", "vocabulary", "settle")
REFERENCES = ("attention", "rms_norm", "rope", "geglu", "router", "experts")


def load_network(
    folder: Path, config: ModelConfig, place: torch.device, quantize: Quantize, progress: OnProgress | None = None
) -> DiffusionGemma:
    """A checkpoint's network with its weights: over Triton kernels, the CPU's own, or in plain torch.

    Raises CheckpointError, DeviceError, or torch.OutOfMemoryError of a GPU.
    """
    kernels = place.type == "cuda" and fused.unsupported(config) is None
    # What is on `meta` takes no memory yet, but making room for it imports sympy, half a second that a small one saves.
    small = place.type == "cpu" and one_expert(config) is None
    with torch.device("cpu" if small else "meta"), Uninitialised():
        model = (FusedGemma if kernels else DiffusionGemma)(config)
    forms = load_weights(model, folder, _dtype(config, place), place, quantize=quantize, progress=progress)
    if isinstance(model, FusedGemma):
        model.fuse()
    elif unsuited(model) is None and "int8" in forms:
        # Numbers that have been rounded to int8 once are rounded again; others keep all their bits.
        library = native.library()
        if library is not None and unfit(config, library.lanes) is None:
            return NativeGemma.of(model, library)
    return model


def chosen(model: DiffusionGemma) -> tuple[tuple[str, str], ...]:
    """Which path runs each part of a loaded network."""
    if isinstance(model, FusedGemma):
        return (*((name, "triton") for name in KERNELS), ("step", "cuda graph"))
    if isinstance(model, NativeGemma):
        return (("network", f"native, {model.library.name}"), ("products", "int8"))
    if model.device.type == "cuda":
        return tuple((name, f"reference, as {fused.unsupported(model.config)}") for name in REFERENCES)
    return (
        *((name, "reference") for name in REFERENCES),
        ("network", f"torch, as {unsuited(model) or _no_kernels(model)}"),
    )


def one_expert(config: ModelConfig) -> str | None:
    """Why the CPU's own kernels do not run a network of this kind; None where they do. They know no routing."""
    if config.experts > 1:
        return "it has more than one expert"
    if {(shape.kv_heads, shape.head_dim) for shape in config.layers} != {(config.heads, config.layers[0].head_dim)}:
        return "its layers' heads differ or share keys"
    return None


def _no_kernels(model: DiffusionGemma) -> str:
    """Why a network of the kind for them does not run over the CPU's own kernels."""
    found = native.library()
    if found is None:
        return native.absent()
    return unfit(model.config, found.lanes) or "its weights are not in int8"


def unsuited(model: DiffusionGemma) -> str | None:
    """Why a network is not for the CPU's own kernels, whatever this CPU has; None where it is."""
    if model.device.type != "cpu":
        return "it is not on a CPU"
    return "its weights have fewer bits" if "+" in precision(model) else one_expert(model.config)


def _dtype(config: ModelConfig, place: torch.device) -> torch.dtype:
    """What weights are read as: the CPU's own kernels are given float32, which they round."""
    if place.type == "cuda":
        return torch.bfloat16
    return torch.float32 if one_expert(config) is None else fastest_dtype(place)


def fastest_dtype(place: torch.device) -> torch.dtype:
    """bf16 where matrix units multiply it, float32 elsewhere."""
    units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if place.type == "cuda" or units else torch.float32
